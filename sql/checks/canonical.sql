-- name: setup
-- Values as one text, the same from the log (DuckDB, here) and from the database (sql/checks/agreement.sql): numbers in
-- plain digits without needless zeros, times as microseconds since 1970.
CREATE MACRO plain_digits(minus, whole, fraction) AS
    CASE WHEN minus AND (ltrim(whole, '0') <> '' OR rtrim(fraction, '0') <> '') THEN '-' ELSE '' END
    || CASE WHEN ltrim(whole, '0') = '' THEN '0' ELSE ltrim(whole, '0') END
    || CASE WHEN rtrim(fraction, '0') = '' THEN '' ELSE '.' || rtrim(fraction, '0') END;

-- Digits with the point moved by an exponent.
CREATE MACRO moved_digits(minus, digits, point) AS CASE
    WHEN point <= 0 THEN plain_digits(minus, '', repeat('0', -point) || digits)
    WHEN point >= strlen(digits) THEN plain_digits(minus, digits || repeat('0', point - strlen(digits)), '')
    ELSE plain_digits(minus, left(digits, point), digits[point + 1:])
END;

CREATE MACRO any_plain_number(t) AS CASE
    WHEN contains(t, 'e') OR contains(t, 'E') THEN moved_digits(
        t[1] = '-',
        regexp_replace(regexp_extract(t, '^[^eE]*'), '[^0-9]', '', 'g'),
        CAST(
            strlen(regexp_extract(t, '^[+-]?([0-9]*)', 1))
            + coalesce(TRY_CAST(regexp_extract(t, '[eE]([+-]?[0-9]+)', 1) AS BIGINT), 0)
        AS BIGINT)
    )
    ELSE plain_digits(t[1] = '-', split_part(ltrim(t, '+-'), '.', 1), split_part(ltrim(t, '+-'), '.', 2))
END;

-- Of numbers with blanks between them: whether one has an exponent, a plus, a needless zero before, no digit before its point,
-- or is a negative zero.
CREATE MACRO unusual_numbers(texts) AS regexp_matches(texts, '[eE+]|(^|[ -])([.]|0[0-9])|-0[.0]*( |$)');

CREATE MACRO usual_number(t) AS CASE WHEN contains(t, '.') THEN rtrim(rtrim(t, '0'), '.') ELSE t END;

CREATE MACRO plain_number(t) AS CASE WHEN unusual_numbers(t) THEN any_plain_number(t) ELSE usual_number(t) END;

CREATE MACRO cell(t) AS CASE WHEN t IS NULL THEN '-,' ELSE '"' || replace(t, '"', '""') || '",' END;

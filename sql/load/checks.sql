-- name: setup
-- Macros of the checks (DuckDB). Times: ISO 8601, or a number since 1970 whose size tells the unit.
CREATE OR REPLACE MACRO is_number(t) AS
    strlen(t) <= 1000 AND regexp_full_match(t, '[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9][0-9]?[0-9]?)?');

CREATE OR REPLACE MACRO is_infinite_or_nan(t) AS
    CASE
        WHEN contains(t, 'n') OR contains(t, 'N') THEN regexp_full_match(t, '(?i)\s*[+-]?(nan|inf|infinity)\s*')
        ELSE t IS NULL AND NULL
    END;

CREATE OR REPLACE MACRO number_or_null(t) AS CASE WHEN NOT is_infinite_or_nan(t) THEN t END;

CREATE OR REPLACE MACRO true_or_false(t) AS
    CASE lower(t) WHEN 'true' THEN true WHEN 'false' THEN false END;

-- How many decimals a number text needs: 1.500 needs 1, 12e-7 needs 7.
CREATE OR REPLACE MACRO any_decimals(t) AS greatest(
    0,
    strlen(regexp_extract(t, '[.]([0-9]*)', 1))
    - coalesce(TRY_CAST(nullif(regexp_extract(t, '[eE]([+-]?[0-9]+)', 1), '') AS BIGINT), 0)
    - (
        strlen(regexp_replace(regexp_extract(t, '^[^eE]*'), '[^0-9]', '', 'g'))
        - strlen(rtrim(regexp_replace(regexp_extract(t, '^[^eE]*'), '[^0-9]', '', 'g'), '0'))
    )
);

CREATE OR REPLACE MACRO decimals(t) AS CASE
    WHEN contains(t, '.') OR contains(t, 'e') OR contains(t, 'E') THEN any_decimals(t)
    WHEN t IS NOT NULL THEN 0
END;

CREATE OR REPLACE MACRO any_moment(t) AS CASE
    WHEN regexp_matches(t, '^[0-9]{4}-[0-9]{2}-[0-9]{2}') THEN TRY_CAST(t AS TIMESTAMPTZ)
    WHEN regexp_full_match(t, '[+-]?[0-9]{1,20}([.][0-9]*)?') THEN make_timestamptz(CAST(floor(
        -- TRY, though every branch has looked: DuckDB may compute what branches share for all rows.
        CASE
            WHEN TRY_CAST(t AS DECIMAL(38, 9)) < 100000000000 THEN TRY_CAST(t AS DECIMAL(38, 9)) * 1000000
            WHEN TRY_CAST(t AS DECIMAL(38, 9)) < 100000000000000 THEN TRY_CAST(t AS DECIMAL(38, 9)) * 1000
            WHEN TRY_CAST(t AS DECIMAL(38, 9)) < 100000000000000000 THEN TRY_CAST(t AS DECIMAL(38, 9))
            ELSE TRY_CAST(t AS DECIMAL(38, 9)) / 1000
        END) AS BIGINT))
END;

-- The start of 1970 and all before it is what senders write for "not said".
CREATE OR REPLACE MACRO moment(t) AS CASE
    WHEN any_moment(t) > TIMESTAMPTZ '1970-01-01 00:00:00+00' THEN any_moment(t)
END;

CREATE OR REPLACE MACRO is_moment(t) AS
    coalesce(any_moment(t) < TIMESTAMPTZ '9999-01-01 00:00:00+00', false);

-- name: begin
-- Empty tables for what Python finds out about single lines, and for the parts the batch is made of.
CREATE OR REPLACE TEMP TABLE odd_lines (n BIGINT, raw VARCHAR, raw_hex VARCHAR, length BIGINT);
CREATE OR REPLACE TEMP TABLE marks (n BIGINT, why VARCHAR, detail VARCHAR);
CREATE OR REPLACE TEMP TABLE parts (
    part BIGINT, first_line BIGINT, lines BIGINT, stream VARCHAR, segment BIGINT, file_offset BIGINT, batch_offset BIGINT,
    last_seq BIGINT
);

-- name: read_lines
-- The lines of a batch in order, one text each; what is not UTF-8 or holds a delimiter is in odd_lines instead.
CREATE OR REPLACE TEMP TABLE lines AS
SELECT row_number() OVER () AS n, coalesce(line, '') AS line
FROM read_csv(
    $path,
    columns = {'line': 'VARCHAR'},
    delim = chr(1), quote = '', escape = '', comment = '', header = false, auto_detect = false,
    new_line = '\n', max_line_size = $max_line_size
);

-- name: parsed
-- Each line that is a JSON object, its fields as text; what a line does not have is NULL. With the part it stands in,
-- by a hash join on narrow rows: an ASOF join would sort the records themselves.
SELECT n, line, part, file_stream, json_transform(line, $shape) AS record
FROM lines
JOIN (
    SELECT unnest(range(first_line, first_line + lines)) AS n, part, stream AS file_stream FROM parts
) AS part_of_line USING (n)
WHERE json_valid(line) AND ltrim(line)[1] = '{';

-- name: fees
-- How a fee given as a number, as {cost, currency}, or as a list of those becomes columns; kept whole in fees.
-- One entry, or a plain number, fills fee and fee_currency. Nothing is added up, absent stays NULL.
SELECT
    * EXCLUDE (fee, fees, fee_currency),
    CASE WHEN json_type(fee) IN ('OBJECT', 'ARRAY') THEN nullif(one ->> 'cost', '')
        ELSE coalesce(nullif(fee ->> '$', ''), nullif(one ->> 'cost', '')) END AS fee,
    coalesce(fee_currency, nullif(one ->> 'currency', '')) AS fee_currency,
    list AS fees
FROM (
    SELECT
        *,
        CASE
            WHEN json_type(fees) = 'ARRAY' AND json_array_length(fees) > 0 THEN fees
            WHEN json_type(fee) = 'ARRAY' AND json_array_length(fee) > 0 THEN fee
        END AS list,
        CASE
            WHEN json_type(fee) = 'OBJECT' THEN fee
            WHEN json_array_length(list) = 1 THEN list -> 0
        END AS one
    FROM source
);

-- name: suspects
-- Lines that DuckDB may take though the JSON standard does not (NaN, trailing commas), for a strict second look.
SELECT n, line
FROM lines
WHERE
    -- One expression for each first character: a set of them, or (?i), is ten times slower.
    regexp_matches(line, ':\s*[+-]?([iI]|[nN][aA])')
    OR regexp_matches(line, '\[\s*[+-]?([iI]|[nN][aA])')
    OR regexp_matches(line, ',\s*[+-]?([iI]|[nN][aA]|[\]}])')
    OR contains(line, '\u0000')
    OR contains(line, ']]]]]]]]')
    OR contains(line, '}}}}}}}}');

-- name: seqs_do_not_add_up
-- Whether the seqs of a part are other than one after the other: lines are lost, moved, doubled, or damaged.
SELECT
    count(*) > 0
FROM (
    SELECT min(seq_number) AS least, max(seq_number) AS greatest, count(seq_number) AS many, sum(seq_number) AS total
    FROM records
    GROUP BY part
)
WHERE greatest - least + 1 <> many OR (least + greatest) * many <> 2 * total;

-- name: disown_seqs
-- Of lines of one part that claim the same seq and are not the same, those have a damaged one that stand elsewhere than
-- the lines around them say, where another stands right; and so has a line between two that agree which seq is its own.
-- The record whose seq it claims, here or in a later batch, must not be taken for a duplicate.
UPDATE records SET seq_number = NULL
WHERE n IN (
    SELECT n
    FROM (
        SELECT
            n, fits, strays, bool_or(fits) OVER claim AS another_fits, min(line) OVER claim <> max(line) OVER claim AS differ
        FROM (
            SELECT
                n, part, seq_number, line,
                coalesce(lag(place) OVER line_by_line = lead(place) OVER line_by_line, false)
                AND place <> lag(place) OVER line_by_line AS strays,
                coalesce(seq_number - n = last_value(shift IGNORE NULLS) OVER before_it, false)
                OR coalesce(seq_number - n = first_value(shift IGNORE NULLS) OVER after_it, false) AS fits
            FROM (
                -- How far a seq is from its line's number, of those that one line alone claims.
                SELECT
                    *,
                    seq_number - n AS place,
                    CASE WHEN count(*) OVER (PARTITION BY part, seq_number) = 1 THEN seq_number - n END AS shift
                FROM records
                JOIN lines USING (n)
                WHERE seq_number IS NOT NULL
            )
            WINDOW
                line_by_line AS (PARTITION BY part ORDER BY n),
                before_it AS (PARTITION BY part ORDER BY n ROWS UNBOUNDED PRECEDING),
                after_it AS (PARTITION BY part ORDER BY n ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
        )
        WINDOW claim AS (PARTITION BY part, seq_number)
    )
    WHERE strays OR (differ AND another_fits AND NOT fits)
);

-- name: suspected_lines
-- What rules for lines look at: lines that are no JSON objects, and those that were marked one by one.
CREATE OR REPLACE TEMP TABLE suspected_lines AS
SELECT n, line, records.n AS record, why, detail
FROM (SELECT n FROM marks UNION SELECT n FROM lines WHERE n NOT IN (SELECT n FROM records))
JOIN lines USING (n)
LEFT JOIN records USING (n)
LEFT JOIN marks USING (n);

-- name: no_findings
-- An empty table of findings: one row for each rule that a line breaks.
CREATE OR REPLACE TEMP TABLE findings (n BIGINT, place INTEGER, rule VARCHAR, severity VARCHAR, says VARCHAR);

-- name: locate
-- Where each line stands: the bytes before it in the batch, to be held against the parts the batch is made of.
CREATE OR REPLACE TEMP TABLE places AS
SELECT
    p.n,
    parts.stream,
    parts.segment,
    parts.file_offset + p.before - parts.batch_offset AS byte_offset,
    p.length
FROM (
    SELECT
        n,
        coalesce(odd.length, strlen(line)) AS length,
        sum(coalesce(odd.length, strlen(line)) + 1) OVER (ORDER BY n) - coalesce(odd.length, strlen(line)) - 1 AS before
    FROM lines
    LEFT JOIN odd_lines AS odd USING (n)
) AS p
ASOF JOIN parts ON p.n >= parts.first_line;

-- name: infer_seqs
-- A line whose seq cannot be read takes the one that its place between its neighbours leaves free.
CREATE OR REPLACE TEMP TABLE inferred AS
WITH neighbours AS (
    SELECT
        lines.n,
        parts.first_line,
        parts.last_seq AS seq_before_part,
        records.seq_number,
        last_value(records.seq_number IGNORE NULLS) OVER before_it AS seq_before,
        first_value(records.seq_number IGNORE NULLS) OVER after_it AS seq_after,
        coalesce(records.kind, '') = 'control' AS control
    FROM lines
    LEFT JOIN records USING (n)
    ASOF JOIN parts ON lines.n >= parts.first_line
    WINDOW
        before_it AS (PARTITION BY parts.first_line ORDER BY lines.n ROWS UNBOUNDED PRECEDING),
        after_it AS (PARTITION BY parts.first_line ORDER BY lines.n ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)
), runs AS (
    SELECT
        n,
        coalesce(seq_before, seq_before_part, 0) AS base,
        seq_after,
        row_number() OVER run AS place,
        count(*) OVER (PARTITION BY first_line, coalesce(seq_before, seq_before_part, 0), seq_after) AS many
    FROM neighbours
    WHERE seq_number IS NULL AND NOT control
    WINDOW run AS (PARTITION BY first_line, coalesce(seq_before, seq_before_part, 0), seq_after ORDER BY n)
)
SELECT n, base + place AS seq
FROM runs
WHERE seq_after IS NULL OR seq_after - base - 1 = many;

-- name: rejects
-- One row for each line with findings, whole, with its place and its reasons (those of the graver sort only).
SELECT
    places.stream,
    places.segment,
    places.byte_offset,
    coalesce(records.seq_number, inferred.seq) AS seq,
    records.seq_number IS NULL AND inferred.seq IS NOT NULL AS seq_inferred,
    found.severity,
    found.reasons,
    records.event_name,
    coalesce(odd.raw, lines.line) AS raw,
    odd.raw_hex AS raw_bytes
FROM (
    SELECT
        n,
        CASE graver WHEN 'reject' THEN 'rejected' ELSE 'repaired' END AS severity,
        '{' || string_agg(
            '"' || replace(replace(rule || ': ' || says, '\', '\\'), '"', '\"') || '"', ',' ORDER BY place, says
        ) || '}' AS reasons
    FROM (SELECT *, min(severity) OVER (PARTITION BY n) AS graver FROM findings)
    WHERE severity = graver
    GROUP BY n, graver
) AS found
JOIN lines USING (n)
JOIN places USING (n)
LEFT JOIN records USING (n)
LEFT JOIN odd_lines AS odd USING (n)
LEFT JOIN inferred USING (n)
ORDER BY n;

-- name: control_lines
-- The control lines of a batch (segment.opened, segment.closed, audit.lost), by the part they stand in. One that is
-- rejected says nothing.
SELECT part, line
FROM (SELECT n, part FROM records WHERE kind = 'control')
JOIN lines USING (n)
WHERE n NOT IN (SELECT n FROM findings WHERE severity = 'reject')
ORDER BY n;

-- name: per_part
-- What each part of a batch holds: lines, records, rejects, first and last seq, and whether its segment ends there.
-- A control line that is rejected counts as a record: nobody knows what it was.
SELECT
    part, lines, lines - coalesce(control, 0) AS records, coalesce(rejected, 0) AS rejected, read.first_seq, read.last_seq,
    coalesce(closed, false) AS closed
FROM parts
LEFT JOIN (
    SELECT
        part, count(*) FILTER (WHERE says) AS control, min(seq_number) AS first_seq, max(seq_number) AS last_seq,
        bool_or(says AND event_name = 'segment.closed') AS closed
    FROM (
        SELECT *, kind = 'control' AND n NOT IN (SELECT n FROM findings WHERE severity = 'reject') AS says FROM records
    )
    GROUP BY part
) AS read USING (part)
LEFT JOIN (
    SELECT part, count(DISTINCT n) AS rejected
    FROM findings
    ASOF JOIN parts ON n >= first_line
    WHERE severity = 'reject'
    GROUP BY part
) AS refused USING (part)
ORDER BY part;

-- name: runs
-- Streams with first and last seqs of records that follow each other. Where seqs are missing between two, and not as many
-- lines lie there, other batches may have taken them.
SELECT stream, min(seq_number) AS first_seq, max(seq_number) AS last_seq
FROM (
    SELECT *, count(*) FILTER (WHERE breaks) OVER (PARTITION BY part ORDER BY n) AS run
    FROM (
        SELECT
            n, part, stream, seq_number,
            seq_number - lag(seq_number) OVER by_line NOT BETWEEN 0 AND n - lag(n) OVER by_line AS breaks
        FROM records
        WHERE kind <> 'control' AND seq_number IS NOT NULL
        WINDOW by_line AS (PARTITION BY part ORDER BY n)
    )
)
GROUP BY stream, part, run;

-- name: reasons
-- Findings by rule, most frequent first, with one example of what each says.
SELECT severity, rule, count(DISTINCT n) AS lines, first(says ORDER BY n) AS example
FROM findings
GROUP BY severity, rule
ORDER BY severity, lines DESC, rule;

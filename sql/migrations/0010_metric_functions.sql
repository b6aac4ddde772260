-- The arithmetic of the metrics (sql/metrics): amounts with 18 decimals, below 10^15, rounded half away from zero. DuckDB
-- has macros of the same names that give the same digits (sql/metrics/duckdb.sql).
CREATE OR REPLACE FUNCTION monitoring.amount_of(x numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN abs(x) < 1000000000000000 THEN round(x, 18) END;

CREATE OR REPLACE FUNCTION monitoring.product_of(a numeric, b numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN round(a * b, 18);

-- div() is exact; a / b would be rounded twice.
CREATE OR REPLACE FUNCTION monitoring.ratio_of(a numeric, b numeric) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN b <> 0 AND abs(b) < 1000000000000000 AND abs(a) < abs(b) * 1000000000000000000
    THEN sign(a) * sign(b) * div(abs(a) * 2000000000000000000 + abs(b), abs(b) * 2) * 0.000000000000000001
END;

-- The currency that a symbol's profit is in: what it settles in (ccxt's BTC/USDT:USDT), else its quote; of symbols without
-- a slash, the end that is a known quote currency. NULL where it cannot be known.
CREATE OR REPLACE FUNCTION monitoring.quote_of(symbol text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE
    WHEN symbol LIKE '%/%:%' THEN nullif(upper(split_part(split_part(symbol, ':', 2), '-', 1)), '')
    WHEN symbol LIKE '%/%' THEN nullif(upper(split_part(symbol, '/', 2)), '')
    ELSE substring(
        upper(symbol) FROM
        '^[A-Z0-9]+?[-_]?(USDT|USDC|FDUSD|BUSD|TUSD|USDE|DAI|USD|EUR|GBP|TRY|BRL|JPY|AUD|BTC|ETH|BNB|SOL)([-_].*)?$'
    )
END;

COMMENT ON FUNCTION monitoring.amount_of IS 'x with 18 decimals; NULL from 10^15 on';
COMMENT ON FUNCTION monitoring.product_of IS 'a * b, rounded to 18 decimals';
COMMENT ON FUNCTION monitoring.ratio_of IS 'a / b, rounded to 18 decimals; NULL where b is 0';
COMMENT ON FUNCTION monitoring.quote_of IS 'The currency that a symbol''s profit is in; NULL where its name does not say';

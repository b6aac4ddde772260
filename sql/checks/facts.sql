-- name: setup
-- What is kept of the log while it is read once (DuckDB): what the checks ask. Only what the loader would take stands in
-- records, orders_created, order_updates and fills.
CREATE SCHEMA raw;

CREATE SCHEMA facts;

CREATE TABLE facts.records (stream main.stream_id, seq BIGINT, "timestamp" TIMESTAMPTZ, segment INTEGER);

CREATE TABLE facts.late (stream main.stream_id, seq BIGINT);

CREATE TABLE facts.last_told (stream main.stream_id, seq BIGINT, said TIMESTAMPTZ);

CREATE TABLE facts.clock_steps (stream main.stream_id, seq BIGINT, seconds DOUBLE);

CREATE TABLE facts.fills (
    stream main.stream_id, seq BIGINT, "timestamp" TIMESTAMPTZ, position_id VARCHAR, exchange VARCHAR, symbol VARCHAR,
    side VARCHAR, price DECIMAL(38, 18), executed_qty DECIMAL(38, 18), order_id VARCHAR, client_order_id VARCHAR,
    trade_id VARCHAR, contract_size DECIMAL(38, 18), cost DECIMAL(38, 18)
);

CREATE TABLE facts.streams (stream main.stream_id, live BOOLEAN);

CREATE TABLE facts.row_digests (tbl VARCHAR, stream main.stream_id, seq BIGINT, digest VARCHAR);

CREATE TABLE facts.unread (stream main.stream_id, segment INTEGER, byte_offset BIGINT, seq BIGINT);

-- name: parts
-- Which parts of a batch the database has taken, by its own word.
CREATE OR REPLACE TEMP TABLE taken AS SELECT unnest(?::BIGINT[]) AS part, unnest(?::BOOLEAN[]) AS loaded;

-- name: rejected
-- The lines of this batch that make no row.
CREATE OR REPLACE TEMP TABLE rejected AS SELECT DISTINCT n FROM findings WHERE severity = 'reject';

-- name: records
-- The accepted records. `said` is when each was written; `late` are those of the past.
CREATE OR REPLACE TEMP TABLE accepted AS
SELECT r.stream, r.seq_number AS seq, r.moment AS "timestamp", coalesce(o.observed_timestamp, r.moment) AS said,
    o.observed_timestamp IS NOT NULL AS late, p.segment
FROM records AS r
JOIN parts AS p USING (part)
LEFT JOIN (
    SELECT n, moment(json_extract_string(line, '$.observed_timestamp')) AS observed_timestamp
    FROM lines
    WHERE contains(line, '"observed_timestamp"')
) AS o USING (n)
WHERE r.kind <> 'control' AND r.n NOT IN (SELECT n FROM rejected);

INSERT INTO facts.records SELECT stream, seq, "timestamp", segment FROM accepted;

INSERT INTO facts.late SELECT stream, seq FROM accepted WHERE late;

-- name: clock
-- Where the clock went back between a record and the one before it. Asked batch by batch, with the last record of each
-- stream from the batches before: all records at once would be held against each other in memory.
CREATE OR REPLACE TEMP TABLE told AS SELECT stream, seq, said FROM accepted UNION ALL SELECT * FROM facts.last_told;

INSERT INTO facts.clock_steps
SELECT stream, seq, (epoch_us(before) - epoch_us(said)) / 1e6
FROM (
    SELECT *, lag(seq) OVER steps AS seq_before, lag(said) OVER steps AS before
    FROM told
    WINDOW steps AS (PARTITION BY stream ORDER BY seq)
)
WHERE seq_before = seq - 1 AND said < before - INTERVAL 1 SECOND;

CREATE OR REPLACE TABLE facts.last_told AS
SELECT stream, max(seq) AS seq, arg_max(said, seq) AS said FROM told GROUP BY stream;

-- name: fills
-- Every fill, those that are reported again too.
INSERT INTO facts.fills
SELECT
    r.stream, r.seq_number, r.moment, r.position_id, r.exchange, r.symbol, r.side, exact_number(r.price),
    exact_number(r.executed_qty), r.order_id, r.client_order_id, r.trade_id, exact_number(r.contract_size),
    exact_number(c.cost)
FROM records AS r
LEFT JOIN (
    SELECT n, CASE WHEN is_number(cost) THEN cost END AS cost
    FROM (SELECT n, json_extract_string(line, '$.attributes.cost') AS cost FROM lines WHERE contains(line, '"cost"'))
) AS c USING (n)
WHERE r.kind = 'trade' AND r.n NOT IN (SELECT n FROM rejected);

-- name: accepted
-- The accepted records of one kind of order record, named as the views of records.sql read them.
SELECT r.* EXCLUDE ("timestamp"), r.seq_number AS seq, r.moment AS "timestamp"
FROM records AS r
WHERE r.kind = '{kind}' AND r.n NOT IN (SELECT n FROM rejected)

-- name: trades
-- Fills as the loader would take them: a trade_id makes one row.
CREATE VIEW facts.trades AS
SELECT * FROM facts.fills
QUALIFY trade_id IS NULL OR row_number() OVER (PARTITION BY exchange, symbol, trade_id ORDER BY stream, seq) = 1;

-- name: orders
-- Orders as the view of that name folds them, with what the checks ask of it; made once.
CREATE TABLE facts.orders AS
SELECT
    stream, seq, "timestamp", position_id, exchange, symbol, order_id, client_order_id, type, side, size, price, status,
    filled
FROM ({orders});

-- name: settled
-- Up to when the records of a stream tell all there is: of a bot that runs, what the last minute lacks may still come.
CREATE OR REPLACE VIEW facts.settled AS
SELECT
    s.stream,
    CASE WHEN s.live THEN max(r."timestamp") - INTERVAL 1 MINUTE ELSE TIMESTAMPTZ 'infinity' END AS until
FROM facts.streams AS s
LEFT JOIN facts.records AS r USING (stream)
GROUP BY s.stream, s.live;

CREATE OR REPLACE MACRO facts.trim_zeros(number) AS usual_number(CAST(number AS VARCHAR));

-- name: breaks
-- Where the numbers of a stream do not go on by one; `before` is the highest one before. Lines that are rejected count too.
SELECT stream, segment, seq, before
FROM (
    SELECT
        p.stream, p.segment, r.n, r.seq_number AS seq,
        greatest(
            coalesce(max(r.seq_number) OVER before_it, 0), coalesce(c.seq, 0)
        ) AS before
    FROM records AS r
    JOIN parts AS p USING (part)
    LEFT JOIN (SELECT unnest(?::VARCHAR[]) AS stream, unnest(?::BIGINT[]) AS seq) AS c ON c.stream = p.stream
    WHERE r.stream = r.file_stream AND r.seq_number >= 1 AND r.kind IS DISTINCT FROM 'control'
    WINDOW before_it AS (PARTITION BY p.stream ORDER BY r.n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
)
WHERE seq <> before + 1
ORDER BY n;

-- name: highest
-- The highest number of each stream in this batch.
SELECT p.stream, max(r.seq_number)
FROM records AS r
JOIN parts AS p USING (part)
WHERE r.stream = r.file_stream AND r.kind IS DISTINCT FROM 'control'
GROUP BY p.stream;

-- name: unread
-- Lines whose number cannot be read, with the one that their place leaves free; none where it leaves several.
INSERT INTO facts.unread
SELECT places.stream, places.segment, places.byte_offset, inferred.seq
FROM places
LEFT JOIN records AS r USING (n)
LEFT JOIN inferred USING (n)
WHERE
    (r.seq_number IS NULL OR r.stream IS DISTINCT FROM r.file_stream) AND coalesce(r.kind, '') <> 'control'
    AND places.n IN (SELECT n FROM rejected);

-- name: count_unread
-- How many such lines each segment has.
SELECT CAST(stream AS VARCHAR), segment, count(*) FROM facts.unread GROUP BY ALL;

-- name: not_loaded
-- Records of each segment that stand behind what the database has taken.
SELECT p.stream, p.segment, count(*), min(r.seq_number), max(r.seq_number)
FROM parts AS p
JOIN taken AS t USING (part)
LEFT JOIN records AS r ON r.part = p.part AND r.kind IS DISTINCT FROM 'control'
WHERE NOT t.loaded AND r.n IS NOT NULL
GROUP BY p.stream, p.segment;

-- name: rows
-- The rows that a table of the database should have; which of them hold numbers that are not plain as they stand.
CREATE OR REPLACE TEMP TABLE rows AS
SELECT *, {unusual} AS unusual FROM ({source});

-- name: loaded_rows
-- Of those, the ones that the database has taken, where it has not taken all.
DELETE FROM rows
WHERE (stream, seq) NOT IN (
    SELECT (r.stream, r.seq_number) FROM records AS r JOIN taken AS k ON k.part = r.part AND k.loaded
    WHERE r.stream IS NOT NULL AND r.seq_number IS NOT NULL
);

-- name: row_digests
-- A digest for each: {tbl} the table, {row} the row as one text, {condition} which rows.
INSERT INTO facts.row_digests
SELECT '{tbl}', t.stream, t.seq, left(sha256({row}), 32)
FROM rows AS t
LEFT JOIN texts AS j ON j.stream = t.stream AND j.seq = t.seq
WHERE {condition};

-- name: cells
-- The values of some rows (? stream, ? seqs) as their digests take them.
SELECT t.seq, [{cells}] AS cells
FROM rows AS t
LEFT JOIN texts AS j ON j.stream = t.stream AND j.seq = t.seq
WHERE t.stream = ? AND t.seq IN (SELECT unnest(?::BIGINT[]))

-- name: folder
-- Where the segments lie. Days and months are those of UTC, as in the program.
SET TimeZone = 'UTC';

SET VARIABLE audit_dir = rtrim(coalesce(getvariable('audit_dir'), 'var/audit'), '/');

-- name: files
-- What has the name of a segment, or of its archive.
SET VARIABLE audit_files = (
    SELECT list(file ORDER BY file)
    FROM (
        FROM glob(regexp_replace(getvariable('audit_dir'), '([*?[])', '[\1]', 'g') || '/*.jsonl*')
        UNION ALL
        FROM glob(regexp_replace(getvariable('audit_dir'), '([*?[])', '[\1]', 'g') || '/archive/*.jsonl*')
    )
    WHERE regexp_full_match(file, '.*[.][0-9a-f]{32}[.][0-9]{6,}[.]jsonl([.](zst|gz))?')
);

-- name: reading
-- The query that reads the files in a variable; none can be read where there are none.
CREATE MACRO raw.reading(variable) AS CASE
    WHEN len(getvariable(variable)) > 0 THEN 'FROM raw.read_lines(getvariable(''' || variable || '''))'
    ELSE 'SELECT NULL::VARCHAR AS line, NULL::VARCHAR AS path WHERE false'
END;

CREATE MACRO raw.measuring(variable) AS CASE
    WHEN len(getvariable(variable)) > 0
    THEN 'SELECT filename AS path, size FROM read_blob(getvariable(''' || variable || '''))'
    ELSE 'SELECT NULL::VARCHAR AS path, NULL::BIGINT AS size WHERE false'
END;

-- name: control
-- First and last lines of segments. To find them every line is looked at once.
CREATE TABLE raw.control AS
SELECT path, control.stream, control.event_name, control."timestamp", control.attributes
FROM (
    SELECT
        path,
        CASE WHEN random() < 2 THEN json_transform(
            line,
            '{"stream": "VARCHAR", "seq": "VARCHAR", "timestamp": "VARCHAR", "event_name": "VARCHAR", "attributes": "JSON"}'
        ) END AS control
    FROM query(raw.reading('audit_files'))
    WHERE contains(line, '"segment.') AND line[1] = '{' AND json_valid(line)
)
WHERE control.event_name IN ('segment.opened', 'segment.closed') AND control.seq IS NULL;

-- name: segments_read
-- The segments: each read raw or, where it is not there, from an archive. void: the offset from which on a later segment has
-- its lines anew, because a sync had failed.
CREATE TABLE raw.found AS
WITH named AS (
    SELECT
        file AS path,
        regexp_extract(file, '([^/]*)[.]([0-9a-f]{32})[.]([0-9]+)[.]jsonl([.].*)?$', ['service', 'stream', 'segment', 'suffix']) AS name
    FROM (SELECT unnest(getvariable('audit_files')) AS file)
), opened AS (
    SELECT
        n.path, c.stream, CAST(n.name.segment AS BIGINT) AS segment, c.attributes ->> 'service' AS service,
        c."timestamp" AS opened_at, c.attributes -> '$.replaces[*]' AS replaces, n.name.suffix = '' AS is_raw
    FROM named AS n
    JOIN raw.control AS c ON
        c.path = n.path AND c.event_name = 'segment.opened' AND c.stream = n.name.stream
        AND CAST(c.attributes ->> 'segment' AS BIGINT) = CAST(n.name.segment AS BIGINT)
    QUALIFY row_number() OVER (
        PARTITION BY n.name.service, n.name.stream, n.name.segment ORDER BY list_position(['', '.zst', '.gz'], n.name.suffix)
    ) = 1
), voids AS (
    SELECT stream, segment, min(void) AS void
    FROM (
        SELECT stream, CAST(entry ->> 'segment' AS BIGINT) AS segment, CAST(entry ->> 'offset' AS BIGINT) AS void
        FROM (SELECT stream, unnest(replaces) AS entry FROM opened)
    )
    GROUP BY stream, segment
), closed AS (
    SELECT path, stream, max("timestamp") AS closed_at, arg_max(attributes, "timestamp") AS footer
    FROM raw.control
    WHERE event_name = 'segment.closed'
    GROUP BY path, stream
)
SELECT o.* EXCLUDE (replaces), v.void, c.closed_at, c.footer
FROM opened AS o
LEFT JOIN voids AS v USING (stream, segment)
LEFT JOIN closed AS c USING (path, stream);

-- name: chosen
-- Segments that are closed and count whole are read as they are; of the others each line's end is held against their limits.
SET VARIABLE audit_whole = (SELECT list(path ORDER BY path) FROM raw.found WHERE footer IS NOT NULL AND void IS NULL);
SET VARIABLE audit_limited = (SELECT list(path ORDER BY path) FROM raw.found WHERE footer IS NULL OR void IS NOT NULL);
SET VARIABLE audit_raw = (SELECT list(path ORDER BY path) FROM raw.found WHERE is_raw);
SET VARIABLE audit_archived = (SELECT list(path ORDER BY path) FROM raw.found WHERE NOT is_raw);

-- name: lines
-- The lines that count. A line that is being written has no end yet: it would end behind the file's end.
CREATE VIEW raw.sizes AS
FROM query(raw.measuring('audit_raw'))
UNION ALL
SELECT path, sum(coalesce(strlen(line), 0) + 1) AS size FROM query(raw.reading('audit_archived')) GROUP BY path;

CREATE VIEW raw.limited_lines AS
SELECT line, path, line_end <= coalesce(f.void, line_end) AS counts
FROM (
    SELECT *, sum(coalesce(strlen(line), 0) + 1) OVER (PARTITION BY path ORDER BY n) AS line_end
    FROM (SELECT *, row_number() OVER () AS n FROM query(raw.reading('audit_limited')))
)
JOIN raw.found AS f USING (path)
LEFT JOIN (FROM query(raw.measuring('audit_raw'))) AS s USING (path)
WHERE line_end <= coalesce(s.size, line_end);

CREATE VIEW raw.lines AS
SELECT line, path
FROM (
    FROM query(raw.reading('audit_whole'))
    UNION ALL
    SELECT line, path FROM raw.limited_lines WHERE counts
)
WHERE strlen(line) <= 1048576;

CREATE VIEW raw.paths AS SELECT path, stream, segment FROM raw.found;

-- name: described
-- What the view of segments shows. Whether a bot still writes one cannot be seen from here.
CREATE VIEW raw.files AS
SELECT
    parse_filename(path) AS file, f.stream, f.segment, f.service, f.opened_at, f.closed_at, s.size AS bytes,
    CAST(f.footer ->> 'records' AS BIGINT) AS records,
    CAST(f.footer ->> 'first_seq' AS BIGINT) AS first_seq,
    coalesce(CAST(f.footer ->> 'last_seq' AS BIGINT), l.last_seq) AS last_seq,
    f.footer ->> 'sha256' AS sha256,
    CAST(f.footer ->> 'recovered' AS BOOLEAN) AS recovered,
    CASE WHEN f.void < s.size THEN 'replaced' WHEN f.footer IS NOT NULL THEN 'closed' ELSE 'unfinished' END AS state
FROM raw.found AS f
LEFT JOIN raw.sizes AS s USING (path)
LEFT JOIN (
    SELECT path, max(TRY_CAST(json_extract_string(line, '$.seq') AS BIGINT)) AS last_seq
    FROM raw.limited_lines
    WHERE json_valid(line)
    GROUP BY path
) AS l USING (path);

-- name: nothing_found
-- A folder that is not there is an empty one to DuckDB.
SET VARIABLE audit_found = CASE
    WHEN len(getvariable('audit_files')) > 0 THEN len(getvariable('audit_files'))
    ELSE error(
        'there are no segments in ' || getvariable('audit_dir')
        || '; name the folder, as in: SET VARIABLE audit_dir = ''/var/lib/bot/audit'', and read this file again'
    )
END;

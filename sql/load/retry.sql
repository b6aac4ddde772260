-- name: asked
-- Which lines are meant; part of other statements. $1 stream, $2 severity, $3 rule, $4 since; NULL: any. A rejected line that
-- was taken after all is done with.
(retried_at IS NULL OR severity = 'repaired')
AND ($1::text IS NULL OR strpos(stream, $1) > 0)
AND ($2::text IS NULL OR severity = $2)
AND ($3::text IS NULL OR EXISTS (SELECT FROM unnest(reasons) AS reason WHERE split_part(reason, ':', 1) = $3))
AND ($4::timestamptz IS NULL OR rejected_at >= $4)

-- name: extent
-- How many lines are meant, and the last one's id.
SELECT count(*) AS lines, coalesce(max(id), 0) AS last FROM monitoring.audit_rejects WHERE {asked};

-- name: page
-- Of the lines that are meant those with ids after $5 and up to $6, in this order: at most $7, and as many as $8 bytes hold,
-- but one in any case.
SELECT id, stream, segment, byte_offset, seq, severity, reasons, event_name, raw, raw_bytes
FROM (
    SELECT
        *,
        row_number() OVER (ORDER BY id) AS place,
        sum(octet_length(raw) + coalesce(octet_length(raw_bytes), 0)) OVER (ORDER BY id) AS bytes
    FROM (SELECT * FROM monitoring.audit_rejects WHERE id > $5 AND id <= $6 AND {asked} ORDER BY id LIMIT $7) AS next
) AS counted
WHERE place = 1 OR bytes <= $8
ORDER BY id;

-- name: at_places
-- The lines at $1 streams, $2 segments, $3 offsets, in this order; without id where nothing is known of a place.
SELECT r.id, r.seq, r.severity, r.retried_at
FROM unnest($1::text[], $2::bigint[], $3::bigint[]) WITH ORDINALITY AS given (stream, segment, byte_offset, place)
LEFT JOIN monitoring.audit_rejects AS r
    ON r.stream = given.stream AND r.segment = given.segment AND r.byte_offset = given.byte_offset
ORDER BY given.place;

-- name: lock_lines
-- Lines by their ids ($1) as they are now, locked: after a lost COMMIT this waits for the old transaction, and is the answer.
SELECT id, severity, retried_at FROM monitoring.audit_rejects WHERE id = ANY ($1::bigint[]) ORDER BY id FOR UPDATE;

-- name: taken_seqs
-- Of the records that lines of unknown seq ($1 ids) say they are ($2 streams, $3 seqs), those that are accounted for: loaded,
-- declared lost, or noted for another line.
SELECT k.id
FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS k (id, stream, seq)
WHERE
    EXISTS (SELECT FROM monitoring.orders AS o WHERE o.stream = k.stream AND o.seq = k.seq OFFSET 0)
    OR EXISTS (SELECT FROM monitoring.order_updates AS u WHERE u.stream = k.stream AND u.seq = k.seq OFFSET 0)
    OR EXISTS (SELECT FROM monitoring.trades AS t WHERE t.stream = k.stream AND t.seq = k.seq OFFSET 0)
    OR EXISTS (SELECT FROM monitoring.events AS e WHERE e.stream = k.stream AND e.seq = k.seq OFFSET 0)
    OR EXISTS (
        SELECT FROM monitoring.audit_rejects AS r WHERE r.stream = k.stream AND r.seq = k.seq AND r.id <> k.id OFFSET 0
    )
    OR EXISTS (
        SELECT FROM monitoring.audit_segments AS s, jsonb_to_recordset(s.losses) AS loss (first bigint, last bigint)
        WHERE s.stream = k.stream AND k.seq BETWEEN loss.first AND loss.last
    );

-- name: doubled_seqs
-- Of lines that were taken ($1 ids, $2 streams, $3 seqs), those whose record stands in tables of two kinds now.
SELECT k.id
FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS k (id, stream, seq)
WHERE
    EXISTS (SELECT FROM monitoring.trades AS t WHERE t.stream = k.stream AND t.seq = k.seq OFFSET 0)::integer
    + EXISTS (SELECT FROM monitoring.events AS e WHERE e.stream = k.stream AND e.seq = k.seq OFFSET 0)::integer
    + (
        EXISTS (SELECT FROM monitoring.orders AS o WHERE o.stream = k.stream AND o.seq = k.seq OFFSET 0)
        OR EXISTS (SELECT FROM monitoring.order_updates AS u WHERE u.stream = k.stream AND u.seq = k.seq OFFSET 0)
    )::integer > 1;

-- name: note_taken
-- Lines that were taken: $1 when, $2 ids, $3 seqs. The line itself stays as it is.
UPDATE monitoring.audit_rejects AS r
SET retried_at = $1, seq = k.seq
FROM unnest($2::bigint[], $3::bigint[]) AS k (id, seq)
WHERE r.id = k.id;

-- name: note_repairs
-- Of those ($1 ids) the ones that needed repairs: these stand behind the old reasons.
UPDATE monitoring.audit_rejects AS r
SET severity = i.severity, reasons = r.reasons || i.reasons
FROM incoming_audit_rejects AS i
WHERE
    r.id = ANY ($1::bigint[]) AND i.severity = 'repaired'
    AND r.stream = i.stream AND r.segment = i.segment AND r.byte_offset = i.byte_offset;

-- name: note_reasons
-- Why lines ($1 ids) are still rejected.
UPDATE monitoring.audit_rejects AS r
SET reasons = i.reasons
FROM incoming_audit_rejects AS i
WHERE
    r.id = ANY ($1::bigint[]) AND r.reasons IS DISTINCT FROM i.reasons
    AND r.stream = i.stream AND r.segment = i.segment AND r.byte_offset = i.byte_offset;

-- name: note_in_ledger
-- Lines that were taken ($1 ids) are rejected no more.
UPDATE monitoring.audit_segments AS s
SET
    rejected = greatest(s.rejected - taken.lines, 0),
    first_seq = least(s.first_seq, taken.first_seq),
    last_seq = greatest(s.last_seq, taken.last_seq),
    loaded_at = clock_timestamp()
FROM (
    SELECT stream, segment, count(*) AS lines, min(seq) AS first_seq, max(seq) AS last_seq
    FROM monitoring.audit_rejects
    WHERE id = ANY ($1::bigint[])
    GROUP BY stream, segment
) AS taken
WHERE s.stream = taken.stream AND s.segment = taken.segment;

-- name: tables_by_id
-- The tables in which rows are found by id, and the sequences that these come from. Where their partitions are tables of
-- months, those of trades, events and order_updates are not.
SELECT t.relname AS name, format('%I.%I', n.nspname, s.relname) AS sequence, t.relkind = 'p' AS partitioned
FROM pg_class AS t
JOIN pg_attribute AS a ON a.attrelid = t.oid AND a.attname = 'id'
LEFT JOIN pg_attrdef AS value ON value.adrelid = t.oid AND value.adnum = a.attnum
JOIN pg_depend AS d
    ON (d.classid = 'pg_attrdef'::regclass AND d.objid = value.oid)
    OR (d.deptype = 'i' AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.refobjsubid = a.attnum)
JOIN pg_class AS s
    ON s.relkind = 'S' AND s.oid = CASE d.classid WHEN 'pg_attrdef'::regclass THEN d.refobjid ELSE d.objid END
JOIN pg_namespace AS n ON n.oid = s.relnamespace
WHERE
    t.relnamespace = 'monitoring'::regnamespace
    AND t.relname IN ('orders', 'order_updates', 'trades', 'events', 'audit_rejects')
    AND EXISTS (
        SELECT FROM (SELECT t.oid AS relid UNION SELECT inhrelid FROM pg_inherits WHERE inhparent = t.oid) AS part
        JOIN pg_index AS x ON x.indrelid = part.relid
        JOIN pg_attribute AS k ON k.attrelid = x.indrelid AND k.attnum = x.indkey[0] AND k.attname = 'id'
    )
ORDER BY name;

-- name: last_id
-- The last id that a sequence ($1) gave.
SELECT coalesce(pg_sequence_last_value($1::text::regclass), 0);

-- name: highest_id
-- The highest id of a row after one ($1) and up to another ($2).
SELECT max(id) FROM monitoring.{table} WHERE id > $1::bigint AND id <= $2::bigint;

-- name: take_ids
-- Take so many ids ($2) of a sequence ($1).
SELECT count(nextval($1::text::regclass)) FROM generate_series(1, $2::bigint);

-- name: unique_ids
-- The tables whose ids have to be unique, and the sequences that these come from.
SELECT t.relname AS name, format('%I.%I', n.nspname, s.relname) AS sequence
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
        JOIN pg_index AS x ON x.indrelid = part.relid AND x.indisunique
        JOIN pg_attribute AS k ON k.attrelid = x.indrelid AND k.attnum = x.indkey[0] AND k.attname = 'id'
    )
ORDER BY name;

-- name: ahead
-- Take an id for each row whose id is still to come. $1: the sequence, $2: of so many rows. ORDER BY: by the index.
SELECT count(nextval($1::text::regclass))
FROM (
    SELECT FROM monitoring.{table}
    WHERE id > (SELECT coalesce(pg_sequence_last_value($1::text::regclass), 0))
    ORDER BY id
    LIMIT $2
) AS ahead;

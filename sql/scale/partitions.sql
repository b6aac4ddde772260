-- name: is_partitioned
-- Whether the tables of this database were made by sql/scale/partitioned.sql.
SELECT EXISTS (
    SELECT FROM pg_partitioned_table WHERE partrelid = to_regclass('monitoring.trades') AND partdefid <> 0
);

-- name: any_table
-- The first table of those that would be partitioned which is there already.
SELECT name
FROM unnest(ARRAY['orders', 'trades', 'events', 'order_updates', 'audit_rejects']) WITH ORDINALITY AS t (name, place)
WHERE to_regclass('monitoring.' || name) IS NOT NULL
ORDER BY place
LIMIT 1;

-- name: make_add_partition
-- A function for whoever keeps partitions: the month's partition of a table, its name where it had to be made. Months are
-- those of UTC. What the default partition holds of the month moves there, in the same transaction.
CREATE OR REPLACE FUNCTION monitoring.add_partition(of_table text, of_month date) RETURNS text
LANGUAGE plpgsql
AS $$
DECLARE
    the_first timestamptz := date_trunc('month', of_month::timestamp) AT TIME ZONE 'UTC';
    the_next timestamptz := (date_trunc('month', of_month::timestamp) + INTERVAL '1 month') AT TIME ZONE 'UTC';
    the_part text := of_table || '_' || to_char(of_month, 'YYYY_MM');
    the_default text := of_table || '_default';
    the_column text;
    the_type regtype;
    the_bounds text[];
    the_rest boolean;
BEGIN
    -- To attach takes this lock anyway; taken first, nothing comes between the looks and what follows.
    EXECUTE format('LOCK TABLE monitoring.%I IN ACCESS EXCLUSIVE MODE', the_default);
    IF to_regclass(format('monitoring.%I', the_part)) IS NOT NULL THEN
        RETURN NULL;
    END IF;
    SELECT a.attname, a.atttypid INTO STRICT the_column, the_type
    FROM pg_partitioned_table AS p
    JOIN pg_attribute AS a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[0]
    WHERE p.partrelid = format('monitoring.%I', of_table)::regclass AND p.partstrat = 'r';
    IF the_type = 'text'::regtype THEN
        -- Ids of streams begin with milliseconds since 1970, in hex.
        the_bounds := ARRAY(
            SELECT lpad(to_hex((extract(epoch FROM t) * 1000)::bigint), 12, '0') FROM unnest(ARRAY[the_first, the_next]) AS t
        );
    ELSE
        the_bounds := ARRAY[the_first::text, the_next::text];
    END IF;
    EXECUTE format(
        'CREATE TABLE monitoring.%I (LIKE monitoring.%I INCLUDING DEFAULTS INCLUDING CONSTRAINTS)', the_part, of_table
    );
    EXECUTE format(
        'SELECT EXISTS (SELECT FROM monitoring.%I WHERE %I >= %L AND %I < %L)',
        the_default, the_column, the_bounds[1], the_column, the_bounds[2]
    ) INTO the_rest;
    IF the_rest THEN
        -- Detached, it has no triggers: a row that moves keeps its key.
        EXECUTE format('ALTER TABLE monitoring.%I DETACH PARTITION monitoring.%I', of_table, the_default);
        EXECUTE format(
            'WITH moved AS (DELETE FROM monitoring.%I WHERE %I >= %L AND %I < %L RETURNING *) '
            'INSERT INTO monitoring.%I SELECT * FROM moved',
            the_default, the_column, the_bounds[1], the_column, the_bounds[2], the_part
        );
    END IF;
    EXECUTE format(
        'ALTER TABLE monitoring.%I ATTACH PARTITION monitoring.%I FOR VALUES FROM (%L) TO (%L)',
        of_table, the_part, the_bounds[1], the_bounds[2]
    );
    IF the_rest THEN
        EXECUTE format('ALTER TABLE monitoring.%I ATTACH PARTITION monitoring.%I DEFAULT', of_table, the_default);
    END IF;
    RETURN the_part;
END
$$;
COMMENT ON FUNCTION monitoring.add_partition IS
    'Makes the partition of trades, events, order_updates or audit_rejects for a month, and moves its rows there';

-- name: missing
-- The partitions that lack, as tables and months: from $1 on (NULL: the oldest one that is there, or last month) until $2.
SELECT t.name AS of_table, month::date AS of_month
FROM unnest(ARRAY['trades', 'events', 'order_updates', 'audit_rejects']) AS t (name)
CROSS JOIN LATERAL (
    SELECT min(to_date(right(c.relname, 7), 'YYYY_MM')) AS first_month
    FROM pg_inherits AS i
    JOIN pg_class AS c ON c.oid = i.inhrelid
    WHERE i.inhparent = to_regclass('monitoring.' || t.name) AND c.relname ~ ('^' || t.name || '_[0-9]{4}_[0-9]{2}$')
) AS oldest
CROSS JOIN LATERAL generate_series(
    coalesce($1::date, least(oldest.first_month, $2::date - INTERVAL '13 months'))::timestamp, $2::date::timestamp, INTERVAL '1 month'
) AS months (month)
WHERE to_regclass(format('monitoring.%I', t.name || to_char(month, '_YYYY_MM'))) IS NULL
ORDER BY month, t.name;

-- name: add
-- One partition: $1 table, $2 month.
SELECT monitoring.add_partition($1, $2);

-- name: may_ask_defaults
-- Whether there are default partitions, and this role may read them.
SELECT count(*) = 4
FROM unnest(ARRAY['trades', 'events', 'order_updates', 'audit_rejects']) AS t (name)
WHERE has_table_privilege(to_regclass('monitoring.' || t.name || '_default'), 'SELECT');

-- name: in_default
-- The tables whose default partition holds rows.
SELECT name
FROM (
    SELECT 1 AS place, 'trades' AS name, EXISTS (SELECT FROM monitoring.trades_default) AS holds
    UNION ALL SELECT 2, 'events', EXISTS (SELECT FROM monitoring.events_default)
    UNION ALL SELECT 3, 'order_updates', EXISTS (SELECT FROM monitoring.order_updates_default)
    UNION ALL SELECT 4, 'audit_rejects', EXISTS (SELECT FROM monitoring.audit_rejects_default)
) AS defaults
WHERE holds
ORDER BY place;

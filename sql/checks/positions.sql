-- What orders must have in common with the bot's own table of positions (PostgreSQL). A rule is asked where the table has
-- rows and the columns that it "needs".

-- rule: position_unknown
-- severity: warning
-- needs: id
-- says: an order of position {value}, which positions does not have
SELECT DISTINCT ON (o.position_id::text) o.stream, o.seq, o.position_id::text AS value
FROM monitoring.orders AS o
WHERE
    o.stream IS NOT NULL AND o.position_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM monitoring.positions AS p WHERE p.id::text = o.position_id::text)
ORDER BY o.position_id::text, o.stream, o.seq

-- rule: entry_order_differs
-- severity: warning
-- needs: id exchange_order_id
-- says: {value}
SELECT
    first.stream, first.seq,
    'position ' || p.id || ' was entered by order ' || p.exchange_order_id || ', and its orders here are '
    || first.ids AS value
FROM monitoring.positions AS p
JOIN (
    SELECT
        o.position_id::text AS position,
        (array_agg(o.stream ORDER BY o.created_at, o.stream, o.seq))[1] AS stream,
        (array_agg(o.seq ORDER BY o.created_at, o.stream, o.seq))[1] AS seq,
        array_agg(o.order_id::text) AS all_ids,
        array_to_string((array_agg(o.order_id::text ORDER BY o.created_at))[1:3], ', ')
        || CASE WHEN count(*) > 3 THEN ', ...' ELSE '' END AS ids
    FROM monitoring.orders AS o
    WHERE o.stream IS NOT NULL AND o.position_id IS NOT NULL AND o.order_id IS NOT NULL
    GROUP BY o.position_id::text
) AS first ON first.position = p.id::text
WHERE nullif(p.exchange_order_id, '') IS NOT NULL AND p.exchange_order_id <> ALL (first.all_ids)
ORDER BY p.id

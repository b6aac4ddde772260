-- Partitions, for those who start big: `tradetrail migrate --partitioned` runs this in the transaction that makes the
-- tables, right behind the migrations, so that columns, comments and lookups are those of the migrations. What each key
-- does for "exactly once", and why it holds here too, tells docs/scaling.md.

-- An empty table gives way to a partitioned one of the same columns, sequence and lookups.
CREATE FUNCTION pg_temp.make_partitioned(of_table text, by_what text) RETURNS void
LANGUAGE plpgsql
AS $$
DECLARE
    the_plain regclass := format('monitoring.%I', of_table)::regclass;
    the_words text := obj_description(the_plain, 'pg_class');
    -- Taken down before the table is renamed, they fit the one that gets its name.
    the_lookups text[] := ARRAY(
        SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = the_plain AND NOT indisunique
    );
    the_lookup text;
BEGIN
    EXECUTE format('ALTER TABLE monitoring.%I RENAME TO plain_table', of_table);
    EXECUTE format(
        'CREATE TABLE monitoring.%I ('
        'LIKE monitoring.plain_table INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING COMMENTS) PARTITION BY %s',
        of_table, by_what
    );
    EXECUTE format('COMMENT ON TABLE monitoring.%I IS %L', of_table, the_words);
    EXECUTE format('ALTER SEQUENCE monitoring.%I OWNED BY monitoring.%I.id', of_table || '_id_seq', of_table);
    DROP TABLE monitoring.plain_table;
    FOREACH the_lookup IN ARRAY the_lookups LOOP
        EXECUTE the_lookup;
    END LOOP;
END
$$;

-- By the time that a record says, which is the same whenever and by whomever it is loaded. What has no partition of its
-- own goes into the default one: nothing is ever refused for its time.
SELECT pg_temp.make_partitioned('trades', 'RANGE (executed_at)');
SELECT pg_temp.make_partitioned('events', 'RANGE (created_at)');
SELECT pg_temp.make_partitioned('order_updates', 'RANGE (recorded_at)');
-- A rejected line may tell no time, and when it was rejected is another time with each load. But its stream does: an id
-- begins with the time when the stream began (UUIDv7), and is a part of the line's key.
SELECT pg_temp.make_partitioned('audit_rejects', 'RANGE (stream)');
-- An order has records of many times, and one row: its key takes none of them.
SELECT pg_temp.make_partitioned('orders', 'HASH (exchange, symbol, order_id)');
DROP FUNCTION pg_temp.make_partitioned;

CREATE TABLE monitoring.trades_default PARTITION OF monitoring.trades DEFAULT;
CREATE TABLE monitoring.events_default PARTITION OF monitoring.events DEFAULT;
CREATE TABLE monitoring.order_updates_default PARTITION OF monitoring.order_updates DEFAULT;
CREATE TABLE monitoring.audit_rejects_default PARTITION OF monitoring.audit_rejects DEFAULT;

-- A unique index has to name the time; (stream, seq) alone is unique all the same, as each record has one time.
CREATE UNIQUE INDEX tradetrail_trades_stream_seq
    ON monitoring.trades (stream, seq, executed_at) WHERE stream IS NOT NULL;
CREATE UNIQUE INDEX tradetrail_events_stream_seq
    ON monitoring.events (stream, seq, created_at) WHERE stream IS NOT NULL;
CREATE UNIQUE INDEX tradetrail_order_updates_stream_seq
    ON monitoring.order_updates (stream, seq, recorded_at);
CREATE UNIQUE INDEX tradetrail_audit_rejects_place
    ON monitoring.audit_rejects (stream, segment, byte_offset);
CREATE UNIQUE INDEX tradetrail_orders_order_id
    ON monitoring.orders (exchange, symbol, order_id) WHERE stream IS NOT NULL;

-- The lines that are tried again are found by id; the other tables of months nobody here asks by it, and each index costs.
CREATE INDEX tradetrail_audit_rejects_id ON monitoring.audit_rejects (id);

-- The number of partitions is for good. A record of an order falls into the same one each time, also without order_id:
-- that (stream, seq) is unique within each makes it so in all.
DO $$
DECLARE
    the_part text;
BEGIN
    FOR n IN 0..15 LOOP
        the_part := format('orders_%s', to_char(n, 'FM00'));
        EXECUTE format(
            'CREATE TABLE monitoring.%I PARTITION OF monitoring.orders FOR VALUES WITH (MODULUS 16, REMAINDER %s)', the_part, n
        );
        EXECUTE format('ALTER TABLE monitoring.%I ADD PRIMARY KEY (id)', the_part);
        EXECUTE format(
            'CREATE UNIQUE INDEX %I ON monitoring.%I (stream, seq) WHERE stream IS NOT NULL',
            'tradetrail_' || the_part || '_stream_seq', the_part
        );
    END LOOP;
END
$$;

-- Two records of one fill may tell different times, so that no index over all partitions could hold its key. This table
-- does: one row for each fill that came through tradetrail, claimed by whoever brings it first.
CREATE TABLE monitoring.trade_keys (
    exchange text,
    symbol text,
    trade_id text,
    PRIMARY KEY (exchange, symbol, trade_id)
);
COMMENT ON TABLE monitoring.trade_keys IS
    'The keys of all fills in trades, of dropped partitions too: kept by triggers, so that each fill is one row';

-- Says to a statement what a unique index would: nothing to one that says ON CONFLICT DO NOTHING, whose row is left out;
-- to any other one, a COPY above all, that the key is there. As the owner: no other role writes keys.
CREATE FUNCTION monitoring.claim_trade_key() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    INSERT INTO monitoring.trade_keys (exchange, symbol, trade_id)
    VALUES (NEW.exchange, NEW.symbol, NEW.trade_id)
    ON CONFLICT DO NOTHING;
    IF FOUND THEN
        RETURN NEW;
    ELSIF current_query() ~* '\mon\s+conflict\s+do\s+nothing\M' THEN
        RETURN NULL;
    END IF;
    RAISE unique_violation USING
        MESSAGE = 'duplicate key value violates unique constraint "trade_keys_pkey"',
        DETAIL = format(
            'Key (exchange, symbol, trade_id)=(%s, %s, %s) already exists.', NEW.exchange, NEW.symbol, NEW.trade_id
        ),
        SCHEMA = 'monitoring', TABLE = 'trade_keys', CONSTRAINT = 'trade_keys_pkey';
END
$$;

-- A row that is deleted may come again. A partition that is dropped is not: its fills stay known.
CREATE FUNCTION monitoring.release_trade_key() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    DELETE FROM monitoring.trade_keys
    WHERE exchange = OLD.exchange AND symbol = OLD.symbol AND trade_id = OLD.trade_id;
    RETURN OLD;
END
$$;

CREATE FUNCTION monitoring.release_all_trade_keys() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
BEGIN
    TRUNCATE monitoring.trade_keys;
    RETURN NULL;
END
$$;

CREATE TRIGGER tradetrail_claim BEFORE INSERT ON monitoring.trades
    FOR EACH ROW
    WHEN (NEW.stream IS NOT NULL AND NEW.exchange IS NOT NULL AND NEW.symbol IS NOT NULL AND NEW.trade_id IS NOT NULL)
    EXECUTE FUNCTION monitoring.claim_trade_key();
-- Before, so that a row that an UPDATE moves to another partition lets its key go and claims it again.
CREATE TRIGGER tradetrail_release BEFORE DELETE ON monitoring.trades
    FOR EACH ROW
    WHEN (OLD.stream IS NOT NULL AND OLD.trade_id IS NOT NULL)
    EXECUTE FUNCTION monitoring.release_trade_key();
CREATE TRIGGER tradetrail_release_all AFTER TRUNCATE ON monitoring.trades
    FOR EACH STATEMENT EXECUTE FUNCTION monitoring.release_all_trade_keys();

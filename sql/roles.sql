-- Two roles without login: give them to the users who need them, such as
--     GRANT tradetrail_loader TO bot_loader;
-- Run as the owner of the tables after `tradetrail migrate`; may be run again.
DO $$
DECLARE
    role text;
BEGIN
    FOREACH role IN ARRAY ARRAY['tradetrail_loader', 'tradetrail_reader'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I NOLOGIN', role);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- roles belong to the whole server: another database may have made it
        END;
    END LOOP;
    -- The loader merges through temporary tables.
    EXECUTE format('GRANT CONNECT, TEMPORARY ON DATABASE %I TO tradetrail_loader', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO tradetrail_reader', current_database());
END
$$;

GRANT USAGE ON SCHEMA monitoring TO tradetrail_loader, tradetrail_reader;

-- The loader: reads, adds, and changes only what it folds or ticks off. It deletes nothing and makes no tables.
GRANT SELECT ON ALL TABLES IN SCHEMA monitoring TO tradetrail_loader;
GRANT INSERT ON monitoring.orders, monitoring.trades, monitoring.order_updates, monitoring.events,
    monitoring.audit_segments, monitoring.audit_rejects, monitoring.performance_metrics TO tradetrail_loader;
GRANT UPDATE ON monitoring.orders, monitoring.audit_segments, monitoring.audit_rejects, monitoring.performance_metrics TO tradetrail_loader;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA monitoring TO tradetrail_loader;

GRANT SELECT ON ALL TABLES IN SCHEMA monitoring TO tradetrail_reader;
ALTER DEFAULT PRIVILEGES IN SCHEMA monitoring GRANT SELECT ON TABLES TO tradetrail_reader;

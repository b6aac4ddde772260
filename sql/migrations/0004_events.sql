-- Events: whatever else the bot records. Rows without stream belong to the bot.
CREATE TABLE IF NOT EXISTS monitoring.events (
    id bigserial PRIMARY KEY,
    event_type text,
    event_data jsonb,
    correlation_id text,
    position_id text,
    order_id text,
    symbol text,
    exchange text,
    severity text,
    error_message text,
    stack_trace text,
    created_at timestamptz DEFAULT now()
);

ALTER TABLE monitoring.events
    ADD COLUMN IF NOT EXISTS stream text COLLATE "C",
    ADD COLUMN IF NOT EXISTS seq bigint;

COMMENT ON COLUMN monitoring.events.stream IS 'Stream of the record that made the row; NULL: the row belongs to the bot';
COMMENT ON COLUMN monitoring.events.seq IS 'Number of that record in its stream; (stream, seq) is its identity';

DO $$
BEGIN
    IF obj_description('monitoring.events'::regclass, 'pg_class') IS NULL THEN
        COMMENT ON TABLE monitoring.events IS 'Events, one row each; event_data holds all fields';
    END IF;
END
$$;

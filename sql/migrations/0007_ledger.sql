-- How far each segment file was taken, and the lines that could not be taken as they were.
CREATE TABLE IF NOT EXISTS monitoring.audit_segments (
    stream text COLLATE "C" NOT NULL,
    segment integer NOT NULL,
    file text,
    service text,
    bytes bigint NOT NULL DEFAULT 0,
    records bigint NOT NULL DEFAULT 0,
    rejected bigint NOT NULL DEFAULT 0,
    lost bigint NOT NULL DEFAULT 0,
    losses jsonb NOT NULL DEFAULT '[]',
    first_seq bigint,
    last_seq bigint,
    sha256 text,
    recovered boolean NOT NULL DEFAULT false,
    void_from bigint,
    opened_at timestamptz,
    closed_at timestamptz,
    loaded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (stream, segment)
);

CREATE TABLE IF NOT EXISTS monitoring.audit_rejects (
    id bigserial PRIMARY KEY,
    stream text COLLATE "C",
    segment integer,
    byte_offset bigint,
    seq bigint,
    seq_inferred boolean NOT NULL DEFAULT false,
    severity text NOT NULL CHECK (severity IN ('rejected', 'repaired')),
    reasons text[] NOT NULL,
    event_name text,
    raw text NOT NULL,
    raw_bytes bytea,
    rejected_at timestamptz NOT NULL DEFAULT now(),
    retried_at timestamptz
);

CREATE UNIQUE INDEX IF NOT EXISTS tradetrail_audit_rejects_place
    ON monitoring.audit_rejects (stream, segment, byte_offset);
CREATE INDEX IF NOT EXISTS tradetrail_audit_rejects_stream_seq
    ON monitoring.audit_rejects (stream, seq);

COMMENT ON TABLE monitoring.audit_segments IS 'The ledger: one row per segment file, written in the transaction that took its records';
COMMENT ON COLUMN monitoring.audit_segments.file IS 'Name of the file, without its folder';
COMMENT ON COLUMN monitoring.audit_segments.bytes IS 'Bytes of the file that were taken, from its start';
COMMENT ON COLUMN monitoring.audit_segments.records IS 'Record lines taken, rejected ones included; control lines are not counted';
COMMENT ON COLUMN monitoring.audit_segments.rejected IS 'Record lines that made no row';
COMMENT ON COLUMN monitoring.audit_segments.lost IS 'Records that the log itself declares lost';
COMMENT ON COLUMN monitoring.audit_segments.losses IS 'Those as a list of {first, last, reason}';
COMMENT ON COLUMN monitoring.audit_segments.sha256 IS 'Digest of all bytes before the footer line, once the file is closed';
COMMENT ON COLUMN monitoring.audit_segments.recovered IS 'Whether another process than the writer finished the file';
COMMENT ON COLUMN monitoring.audit_segments.void_from IS 'Offset from which the bytes count no more: they were written anew to a later segment';
COMMENT ON COLUMN monitoring.audit_segments.loaded_at IS 'When the row was last written';

COMMENT ON TABLE monitoring.audit_rejects IS 'Lines that were rejected (no row) or repaired (a row, with a change), whole and with the reasons';
COMMENT ON COLUMN monitoring.audit_rejects.byte_offset IS 'Where the line starts in its segment file';
COMMENT ON COLUMN monitoring.audit_rejects.seq_inferred IS 'The seq could not be read; it is the one its neighbours leave free';
COMMENT ON COLUMN monitoring.audit_rejects.raw IS 'The line as text';
COMMENT ON COLUMN monitoring.audit_rejects.raw_bytes IS 'The exact bytes of the line, where they are no text that PostgreSQL can hold';
COMMENT ON COLUMN monitoring.audit_rejects.retried_at IS 'When the line was taken after all';

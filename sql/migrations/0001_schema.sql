-- The schema, and the note of which migrations were applied.
CREATE SCHEMA IF NOT EXISTS monitoring;

CREATE TABLE IF NOT EXISTS monitoring.schema_migrations (
    version integer PRIMARY KEY,
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE monitoring.schema_migrations IS 'Migrations of tradetrail that were applied, each with the digest of its text';

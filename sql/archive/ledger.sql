-- name: whole_segments
-- What PostgreSQL has to the last byte: segments whose footer was taken too, and of which no byte is void.
SELECT stream, segment, file, bytes, sha256, closed_at
FROM monitoring.audit_segments
WHERE closed_at IS NOT NULL AND sha256 IS NOT NULL AND void_from IS NULL;

-- What metrics need to know of a fill beyond the bot's own columns.
ALTER TABLE monitoring.trades
    ADD COLUMN IF NOT EXISTS contract_size numeric,
    ADD COLUMN IF NOT EXISTS reason text,
    ADD COLUMN IF NOT EXISTS estimated boolean;

COMMENT ON COLUMN monitoring.trades.contract_size IS 'Units of the base currency in one of quantity; NULL: one';
COMMENT ON COLUMN monitoring.trades.reason IS 'Why the fill came about, as the bot says it: the exit reason of a round trip';
COMMENT ON COLUMN monitoring.trades.estimated IS 'Whether the bot did not see the fill itself and estimated it';

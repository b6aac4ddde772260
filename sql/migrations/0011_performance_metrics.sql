-- Figures that `tradetrail metrics --store` keeps: a row for each period.
CREATE TABLE IF NOT EXISTS monitoring.performance_metrics (
    id bigserial PRIMARY KEY,
    period text,
    total_trades integer,
    winning_trades integer,
    losing_trades integer,
    total_pnl numeric,
    win_rate numeric,
    profit_factor numeric,
    sharpe_ratio numeric,
    max_drawdown numeric,
    avg_win numeric,
    avg_loss numeric
);

ALTER TABLE monitoring.performance_metrics
    ADD COLUMN IF NOT EXISTS stored_by text,
    ADD COLUMN IF NOT EXISTS stored_at timestamptz;

COMMENT ON COLUMN monitoring.performance_metrics.stored_by IS 'tradetrail for its own rows, which it brings up to date; NULL: the row belongs to the bot';
COMMENT ON COLUMN monitoring.performance_metrics.stored_at IS 'When tradetrail last wrote the row';

DO $$
BEGIN
    IF obj_description('monitoring.performance_metrics'::regclass, 'pg_class') IS NULL THEN
        COMMENT ON TABLE monitoring.performance_metrics IS 'Performance by period, as tradetrail metrics --store found it';
    END IF;
END
$$;

-- name: chosen_trips
-- Figures from round trips, in total (grouped 0) and by a label (grouped 1); runs on both engines like round_trips.sql.
-- Here: the trips in question; a trip counts where and when it was closed.
SELECT grouped, CASE grouped WHEN 0 THEN '' ELSE coalesce({label}, '') END AS label, t.*
FROM (SELECT *, closed_at AS counted_at FROM round_trips) AS t
CROSS JOIN (SELECT 0 AS grouped UNION ALL SELECT 1) AS totals_and_groups
WHERE {chosen}

-- name: chosen_parts
-- The parts of fills in question: those of trips where the trip counts, what is still open when it was executed.
SELECT grouped, CASE grouped WHEN 0 THEN '' ELSE coalesce({label}, '') END AS label, t.*
FROM (
    SELECT
        p.n, p.stream, p.seq, p.whole, p.part, p.share_from, p.share_to, p.fee_unknown, p.trip, p.exchange, p.symbol, p.side,
        p.quote, p.only_fee, p.only_currency,
        CASE WHEN t.lane IS NULL THEN p.signal_id ELSE t.signal_id END AS signal_id,
        t.exit_reason,
        coalesce(t.closed_at, p.executed_at) AS counted_at
    FROM portions AS p
    LEFT JOIN round_trips AS t ON t.lane = p.lane AND t.trip = p.trip
) AS t
CROSS JOIN (SELECT 0 AS grouped UNION ALL SELECT 1) AS totals_and_groups
WHERE {chosen}

-- name: equity
-- The closed-trade equity curve of each group, which starts at 0, and how far it is below its peak. What is
-- nothing in 8 decimals is a draw: exchanges settle no less.
SELECT *, sign(round(net_pnl, 8)) AS outcome, greatest(0, max(equity) OVER so_far) - equity AS drawdown
FROM (
    SELECT *, sum(net_pnl) OVER so_far AS equity
    FROM chosen_trips
    WINDOW so_far AS (PARTITION BY grouped, label ORDER BY closed_at, stream, seq, lane, trip ROWS UNBOUNDED PRECEDING)
) AS curve
WINDOW so_far AS (PARTITION BY grouped, label ORDER BY closed_at, stream, seq, lane, trip ROWS UNBOUNDED PRECEDING)

-- name: trip_figures
-- What the trips of a group add up to.
SELECT
    grouped, label,
    count(*) AS trades,
    count(CASE WHEN outcome > 0 THEN 1 END) AS wins,
    count(CASE WHEN outcome < 0 THEN 1 END) AS losses,
    count(CASE WHEN outcome = 0 THEN 1 END) AS draws,
    sum(gross_pnl) AS gross_pnl,
    sum(fees) AS fees,
    sum(net_pnl) AS net_pnl,
    sum(CASE WHEN outcome > 0 THEN net_pnl ELSE 0 END) AS profit,
    sum(CASE WHEN outcome < 0 THEN -net_pnl ELSE 0 END) AS loss,
    max(net_pnl) AS best,
    min(net_pnl) AS worst,
    max(drawdown) AS max_drawdown,
    CASE WHEN max(abs(net_pnl)) < 1000000000 THEN sum(round(monitoring.product_of(net_pnl, net_pnl), 15)) END AS squares,
    sum(duration_seconds) AS duration_seconds,
    count(CASE WHEN estimated THEN 1 END) AS estimated
FROM equity
GROUP BY grouped, label

-- name: fill_figures
-- What the fills of a group say: how many there are, what is known of fees, what is still open.
SELECT
    grouped, label,
    count(DISTINCT n) AS fills,
    count(DISTINCT CASE WHEN fee_unknown THEN n END) AS fills_without_fee,
    sum(CASE WHEN trip IS NULL THEN part ELSE 0 END) AS open_quantity,
    count(DISTINCT CASE WHEN trip IS NULL THEN symbol END) AS open_symbols,
    min(quote) AS quote,
    count(DISTINCT quote) AS quotes
FROM chosen_parts
GROUP BY grouped, label

-- name: fees_paid
-- Each fee of each part.
SELECT grouped, label, whole, share_from, share_to, only_currency AS currency, only_fee AS cost
FROM chosen_parts
WHERE only_fee IS NOT NULL
UNION ALL
SELECT grouped, label, whole, share_from, share_to, l.currency, l.cost
FROM chosen_parts AS p
JOIN listed_fees AS l ON l.stream = p.stream AND l.seq = p.seq

-- name: fee_figures
-- The fees of a group, each currency by itself, as 'BNB=0.1' and so on; between them a sign that stands in no name.
SELECT grouped, label, string_agg(currency || '=' || CAST(cost AS text), chr(31) ORDER BY currency) AS fees_by_currency
FROM (
    SELECT grouped, label, coalesce(currency, 'unknown') AS currency, sum(cost) AS cost
    FROM (
        SELECT grouped, label, currency, cost FROM fees_paid WHERE whole
        UNION ALL
        SELECT
            grouped, label, currency,
            monitoring.product_of(cost, share_to) - monitoring.product_of(cost, share_from) AS cost
        FROM fees_paid
        WHERE NOT whole
    ) AS each_fee
    GROUP BY grouped, label, coalesce(currency, 'unknown')
) AS by_currency
GROUP BY grouped, label

-- name: figures
-- All figures, a row for the total and each label. Money in several currencies is not added up.
SELECT
    f.grouped, f.label,
    coalesce(t.trades, 0) AS trades,
    coalesce(t.wins, 0) AS wins,
    coalesce(t.losses, 0) AS losses,
    coalesce(t.draws, 0) AS draws,
    monitoring.ratio_of(t.wins, t.trades) AS win_rate,
    CASE WHEN quotes < 2 THEN coalesce(gross_pnl, 0) END AS gross_pnl,
    CASE WHEN quotes < 2 THEN coalesce(fees, 0) END AS fees,
    CASE WHEN quotes < 2 THEN coalesce(net_pnl, 0) END AS net_pnl,
    CASE WHEN quotes < 2 THEN monitoring.ratio_of(profit, loss) END AS profit_factor,
    CASE WHEN quotes < 2 THEN monitoring.ratio_of(profit, wins) END AS average_win,
    CASE WHEN quotes < 2 THEN monitoring.ratio_of(-loss, losses) END AS average_loss,
    CASE WHEN quotes < 2 THEN monitoring.ratio_of(net_pnl, trades) END AS expectancy,
    CASE WHEN quotes < 2 THEN best END AS best,
    CASE WHEN quotes < 2 THEN worst END AS worst,
    CASE WHEN quotes < 2 THEN coalesce(max_drawdown, 0) END AS max_drawdown,
    CASE WHEN quotes < 2 THEN squares END AS squares,
    monitoring.ratio_of(duration_seconds, trades) AS average_duration_seconds,
    coalesce(t.estimated, 0) AS estimated,
    CASE WHEN open_symbols < 2 THEN open_quantity END AS open_quantity,
    open_symbols,
    fills,
    fills_without_fee,
    CASE WHEN quotes < 2 THEN quote END AS quote,
    coalesce(fees_by_currency, '') AS fees_by_currency,
    (SELECT count(*) FROM countable WHERE quantity <> 0 OR quantity IS NULL) - (SELECT count(*) FROM fills) AS fills_left_out
FROM fill_figures AS f
LEFT JOIN trip_figures AS t ON t.grouped = f.grouped AND t.label = f.label
LEFT JOIN fee_figures AS c ON c.grouped = f.grouped AND c.label = f.label
ORDER BY f.grouped, f.label

-- Citus: trades, orders and their records by symbol, events by stream, each on many nodes. To be run on the coordinator
-- (psql -1 -f) behind `CREATE EXTENSION citus` and `tradetrail migrate` without --partitioned, while the tables are empty.
--
-- Citus holds a key only where it has the distribution column in it, distributes no rows without one, and has no triggers
-- on distributed tables. So each unique index below has the column, and stays as strict as it was: a record has one symbol
-- and one stream, whenever it is loaded. What of the loader's own statements goes beyond the limits of Citus, and what
-- that means, tells docs/scaling.md.

-- ids come from one sequence each: alone they are no key that Citus could hold.
ALTER TABLE monitoring.trades DROP CONSTRAINT trades_pkey, ALTER COLUMN symbol SET NOT NULL;
ALTER TABLE monitoring.trades ADD PRIMARY KEY (id, symbol);
ALTER TABLE monitoring.orders DROP CONSTRAINT orders_pkey, ALTER COLUMN symbol SET NOT NULL;
ALTER TABLE monitoring.orders ADD PRIMARY KEY (id, symbol);
ALTER TABLE monitoring.order_updates DROP CONSTRAINT order_updates_pkey, ALTER COLUMN symbol SET NOT NULL;
ALTER TABLE monitoring.order_updates ADD PRIMARY KEY (id, symbol);
ALTER TABLE monitoring.events DROP CONSTRAINT events_pkey, ALTER COLUMN stream SET NOT NULL;
ALTER TABLE monitoring.events ADD PRIMARY KEY (id, stream);

DROP INDEX monitoring.tradetrail_trades_stream_seq;
CREATE UNIQUE INDEX tradetrail_trades_stream_seq ON monitoring.trades (stream, seq, symbol) WHERE stream IS NOT NULL;
DROP INDEX monitoring.tradetrail_orders_stream_seq;
CREATE UNIQUE INDEX tradetrail_orders_stream_seq ON monitoring.orders (stream, seq, symbol) WHERE stream IS NOT NULL;
DROP INDEX monitoring.tradetrail_order_updates_stream_seq;
CREATE UNIQUE INDEX tradetrail_order_updates_stream_seq ON monitoring.order_updates (stream, seq, symbol);

-- Orders beside their fills and their records: joins by symbol stay on a node. A fill's key and an order's have the symbol
-- by nature: (exchange, symbol, trade_id), (exchange, symbol, order_id).
SELECT create_distributed_table('monitoring.trades', 'symbol', colocate_with => 'none');
SELECT create_distributed_table('monitoring.orders', 'symbol', colocate_with => 'monitoring.trades');
SELECT create_distributed_table('monitoring.order_updates', 'symbol', colocate_with => 'monitoring.trades');
-- Not every event has a symbol.
SELECT create_distributed_table('monitoring.events', 'stream', colocate_with => 'none');

-- The ledger and what was rejected stay on the coordinator: they are small, locked FOR UPDATE, and asked by every batch.
-- positions and performance_metrics are the bot's and a person's, and stay as well.

-- The rules that a line is held to, one path for all kinds of records. A rule that says "reject" keeps its line out of
-- the tables; one that says "repair" loads it with the change it names. Both are noted in monitoring.audit_rejects with
-- the whole line. Where a rule has "each", it stands for every field (or real column) of that sort:
-- {field} is the field, {value} its text, {limit} what the column holds. "within" is what every record that breaks the rule
-- also meets, and is cheaper to ask.

-- rule: not_utf8
-- for: line
-- severity: reject
-- says: the line is not UTF-8
why = 'not_utf8'

-- rule: line_too_long
-- for: line
-- severity: reject
-- says: the line is longer than {value}
-- value: detail
why = 'line_too_long'

-- rule: empty_line
-- for: line
-- severity: reject
-- says: the line is empty
why IS NULL AND trim(line) = ''

-- rule: not_json
-- for: line
-- severity: reject
-- says: the line is not a JSON object
why = 'not_json' OR (why IS NULL AND record IS NULL AND trim(line) <> '')

-- rule: not_strict_json
-- for: line
-- severity: reject
-- says: the line is not JSON by the standard: {value}
-- value: detail
why = 'not_strict_json'

-- rule: nul_in_text
-- for: line
-- severity: reject
-- says: a text holds the character NUL, which PostgreSQL cannot
why = 'nul_in_text'

-- rule: refused_by_database
-- for: line
-- severity: reject
-- says: PostgreSQL refused the row: {value}
-- value: detail
why = 'refused_by_database'

-- rule: repeated_trade
-- for: line
-- severity: repair
-- says: this trade_id is loaded already from another record; no second row was made
why = 'repeated_trade'

-- rule: stream_missing
-- for: record
-- severity: reject
-- says: stream is missing
stream IS NULL

-- rule: stream_of_another_file
-- for: record
-- severity: reject
-- says: the record belongs to stream {value}, not to this file's
-- value: stream
stream IS DISTINCT FROM file_stream AND stream IS NOT NULL

-- rule: seq_unreadable
-- for: record
-- severity: reject
-- says: seq is no whole number of at least 1, or that of another line
seq_number IS NULL OR seq_number < 1

-- rule: event_name_missing
-- for: record
-- severity: reject
-- says: event_name is missing
event_name IS NULL

-- rule: attributes_missing
-- for: event
-- severity: reject
-- says: attributes is missing or not an object
attributes_missing

-- rule: timestamp_unreadable
-- for: record
-- severity: reject
-- says: timestamp is missing or no time: {value}
-- value: coalesce(timestamp, 'nothing')
moment IS NULL OR moment >= TIMESTAMPTZ '9999-01-01 00:00:00+00'

-- rule: field_missing
-- each: required
-- severity: reject
-- says: {field} is missing
{field} IS NULL

-- rule: order_not_named
-- for: order_update
-- severity: reject
-- says: neither order_id nor client_order_id is given
order_id IS NULL AND client_order_id IS NULL

-- rule: number_unreadable
-- each: number
-- severity: reject
-- says: {field} is no number: {value}
-- within: NOT is_number({field})
NOT is_number({field}) AND NOT is_infinite_or_nan({field})

-- rule: number_not_finite
-- each: number
-- severity: repair
-- says: {field} was {value}, loaded as NULL
-- within: NOT is_number({field})
is_infinite_or_nan({field})

-- rule: number_too_large
-- each: bounded
-- severity: reject
-- says: {field} is too large for its column, {limit}: {value}
is_number({field}) AND TRY_CAST({field} AS {limit}) IS NULL

-- rule: number_rounded
-- each: bounded
-- severity: repair
-- says: {field} has more decimals than its column, {limit}, and was rounded: {value}
is_number({field}) AND TRY_CAST({field} AS {limit}) IS NOT NULL AND decimals({field}) > {scale}

-- rule: integer_unreadable
-- each: integer
-- severity: repair
-- says: {field} was no whole number that its column holds, loaded as NULL: {value}
-- within: NOT regexp_full_match({field}, '[0-9]{1,18}') OR TRY_CAST({field} AS {limit}) IS NULL
{field} IS NOT NULL AND (TRY_CAST({field} AS {limit}) IS NULL OR NOT is_number({field}) OR decimals({field}) > 0)

-- rule: boolean_unreadable
-- each: boolean
-- severity: repair
-- says: {field} was neither true nor false, loaded as NULL: {value}
{field} IS NOT NULL AND true_or_false({field}) IS NULL

-- rule: time_unreadable
-- each: time
-- severity: reject
-- says: {field} is no time: {value}
{field} IS NOT NULL AND NOT is_moment({field})

-- rule: text_too_long
-- each: limited
-- severity: reject
-- says: {field} has more characters than the {limit} its column holds: {value}
length({field}) > {limit}

-- rule: column_not_null
-- each: not_null
-- severity: reject
-- says: {field} is missing and its column in this database takes no NULL
{field} IS NULL

-- rule: status_unknown
-- for: order order_update
-- severity: repair
-- says: status is kept, but not one that is known: {value}
-- value: status
upper(status) NOT IN (
    'NEW', 'OPEN', 'PENDING', 'PENDING_NEW', 'CREATED', 'ACCEPTED', 'ACTIVE', 'UNTRIGGERED', 'TRIGGERED', 'PARTIALLY_FILLED',
    'FILLED', 'PENDING_CANCEL', 'CANCELING', 'CANCELED', 'CANCELLED', 'REJECTED', 'EXPIRED', 'EXPIRED_IN_MATCH'
)

-- rule: type_unknown
-- for: order order_update
-- severity: repair
-- says: type is kept, but not one that is known: {value}
-- value: type
upper(type) NOT IN (
    'MARKET', 'LIMIT', 'LIMIT_MAKER', 'STOP', 'STOP_MARKET', 'STOP_LIMIT', 'STOP_LOSS', 'STOP_LOSS_LIMIT', 'TAKE_PROFIT',
    'TAKE_PROFIT_MARKET', 'TAKE_PROFIT_LIMIT', 'TRAILING_STOP', 'TRAILING_STOP_MARKET', 'OCO', 'IOC', 'FOK', 'POST_ONLY'
)

-- rule: side_unknown
-- for: order order_update trade
-- severity: repair
-- says: side is kept, but neither buy nor sell: {value}
-- value: side
lower(side) NOT IN ('buy', 'sell')

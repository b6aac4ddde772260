-- Rules for lines that are tried again, beside those for all lines (rules.sql): they stand in for a record that is
-- numbered already.

-- rule: seq_of_another_record
-- for: line
-- severity: reject
-- says: seq is {value}
-- value: detail
why = 'seq_of_another_record'

-- rule: seq_taken
-- for: line
-- severity: reject
-- says: seq {value} is another record's, which is accounted for
-- value: detail
why = 'seq_taken'

-- rule: no_record
-- for: line
-- severity: reject
-- says: the line is no record, but one that tells of the file
why = 'no_record'

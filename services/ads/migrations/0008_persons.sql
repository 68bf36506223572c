-- Frequency caps ask what a person was shown, in the transaction that gives out the next place.
CREATE INDEX served_by_person ON served (person, at) WHERE person <> '';

-- Where the controller stands that holds the cost of a conversion to a campaign's target.
CREATE TABLE costs (
    campaign TEXT PRIMARY KEY REFERENCES campaigns (id),
    dual     DOUBLE PRECISION NOT NULL
);

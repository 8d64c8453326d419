-- Log text, in a file of its own: appending to logs never waits for other writes, nor they for it.
-- A segment holds the lines first .. first + lines of a log, compressed; `bytes` is the size of the text.
CREATE TABLE segments (
    logid INTEGER NOT NULL,
    first INTEGER NOT NULL,
    lines INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    data BLOB NOT NULL
);
CREATE UNIQUE INDEX segments_logid_first ON segments (logid, first);

-- Log text stands in a file of its own (sqlite-logs), and what is new there has its step there.
SELECT 1;

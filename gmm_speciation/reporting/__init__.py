"""Claims, records, reports and the terminal: what both packages say their results with."""

-- Replace the rows of a live table by those of a restored table; rows that only the live table has are lost.
-- The live table itself stays, with its policy tags, row access policies, labels and views. A new table would have none
-- of them, and its readers would see masked values. BigQuery rejects the statement while it would delete rows that were
-- streamed in within the last 90 minutes
-- (https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations): stop the ingestion first. The
-- command takes a snapshot of the live table first and compares the two tables; this statement does neither.
-- {{ restored }} NAME: the restored table
-- {{ table }} NAME: the live table
-- Cost: table
-- Part of: sluice restore --replace
MERGE `{{ project }}.{{ dataset }}.{{ table }}` AS live
USING `{{ project }}.{{ dataset }}.{{ restored }}` AS restored
ON FALSE
WHEN NOT MATCHED BY SOURCE THEN
  DELETE
WHEN NOT MATCHED THEN
  INSERT ROW

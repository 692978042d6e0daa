-- Put the rows of a restored table in the place of a live table's, whose own are gone then.
-- The table itself stays, and with it its policy tags, row access policies, labels and views: a table that is made anew has
-- none of them, and its readers would see what is masked. BigQuery refuses to delete rows that it streamed in within the last 90
-- minutes, and changes nothing then (https://cloud.google.com/bigquery/docs/data-manipulation-language#limitations): stop the
-- ingestion before. The command takes a snapshot of the live table before, and compares the two; this does not.
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

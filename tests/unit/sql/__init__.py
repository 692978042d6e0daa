"""All SQL of `sql/`: Google's analyzer, and the rules of BigQuery that it does not know."""

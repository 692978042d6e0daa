"""The fields of a contract in words."""

import json

from google.cloud import bigquery

from sluice.contract.fields import fields
from sluice.contract.project import ContractFiles


def test_a_field_has_its_rules_its_column_and_a_valid_sample() -> None:
    schema = json.loads(ContractFiles.on_disk().contracts["order.v1.json"])
    line = bigquery.SchemaField("price", "NUMERIC", "REQUIRED", description="Price of one unit")
    columns = [bigquery.SchemaField("items", "RECORD", "REPEATED", fields=[line])]
    by_path = {field.path: field for field in fields(schema, columns)}
    price, status, items = by_path["$.items[*].price"], by_path["$.status"], by_path["$.items"]
    assert (price.type, price.allowed, price.sample) == ("number", "0 to 1,000,000,000", 1)
    assert (price.column, price.column_type) == ("items.price", "NUMERIC NOT NULL")
    assert (status.allowed, status.sample) == ("pending, processing, shipped, delivered", "pending")
    assert (status.column, status.is_required) == (None, True)
    assert (items.allowed, items.sample, items.column_type) == ("1 to 1,000 items", None, "ARRAY of STRUCT")


def test_choices_and_formats_are_in_words() -> None:
    schema = {
        "properties": {"address": {"type": ["string", "null"], "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}}
    }
    [address] = fields(schema, [])
    assert (address.type, address.allowed) == ("string or null", "format ipv4 or format ipv6")
    assert not address.is_required

"""Round measured values, from which the tests compute costs."""

from sluice.cost.measured import Measured, Sizes

MEASURED = Measured(
    run="", revision="", message_bytes=350, event_cpu=120e-6, flush_cpu=3e-3, byte_cpu=30e-9, core_cpu=20e-6,
    drain_cpu=50e-6, plain_cpu=1.6e-3, upload=0.06, insert=0.08, billed_row_bytes=1040, object_bytes=600,
    archived_bytes=100, plain_object_bytes=620, sizes=Sizes(row=500, lineage=250, reconciled=200, merged=180, json=900),
)  # fmt: skip

"""The pipeline of `functions/` on Apache Beam, for streams that outgrow functions."""

CREATE OR REPLACE VIEW `{{ project }}.{{ dataset }}.dead_letter_status` (
  failed_on OPTIONS (description = "UTC day"),
  event_id OPTIONS (description = "Identity of the event"),
  content_digest OPTIONS (description = "Digest of event_id and the original bytes; NULL for older code"),
  message_id OPTIONS (description = "Pub/Sub's id of the message"),
  failed_at OPTIONS (description = "When Sluice rejected the event"),
  event_type OPTIONS (description = "Event type that the payload states, known or not"),
  stage OPTIONS (description = "decode, contract, enrich, time_bounds or warehouse"),
  place OPTIONS (description = "Path of the first error, with [*] for indexes and for names that no contract has"),
  rule OPTIONS (description = "The rule that it broke"),
  fingerprint OPTIONS (description = "The same for the same cause"),
  cause OPTIONS (description = "The fingerprint; for dead letters without place made from stage, type, rule and path"),
  archive_uri OPTIONS (description = "Object with the message"),
  code_version OPTIONS (description = "Code that rejected the event"),
  is_open OPTIONS (description = "Whether the event has no other record, according to the replays"),
  replayed_at OPTIONS (description = "When the event was replayed last"),
  outcome OPTIONS (description = "Result of that replay: row or dead_letter")
)
OPTIONS (
  description = "Each dead letter, and whether it is open: not replayed yet, or with the same result; no payloads",
  labels = [("environment", "{{ environment }}"), ("managed_by", "cloud_function"), ("definition", "{{ definition }}")]
)
AS
SELECT
  DATE(letter.failed_at) AS failed_on,
  letter.event_id,
  letter.content_digest,
  letter.message_id,
  letter.failed_at,
  letter.event_type,
  letter.stage,
  letter.place,
  letter.rule,
  letter.fingerprint,
  letter.cause,
  letter.archive_uri,
  letter.code_version,
  COALESCE(
    last.outcome != 'row' AND (last.new_fingerprint = letter.fingerprint OR last.replayed_at < letter.failed_at),
    TRUE
  ) AS is_open,
  last.replayed_at,
  last.outcome
FROM (
  SELECT
    event_id,
    content_digest,
    message_id,
    failed_at,
    event_type,
    stage,
    errors[SAFE_OFFSET(0)].rule AS rule,
    COALESCE(place, REGEXP_REPLACE(errors[SAFE_OFFSET(0)].path, r"\[([0-9]+|'.*')\]", "[*]")) AS place,
    fingerprint,
    IF(
      place IS NULL,
      TO_HEX(MD5(TO_JSON_STRING(STRUCT(
        stage,
        IF(errors[SAFE_OFFSET(0)].path = '$.event_type', NULL, event_type) AS event_type,
        REGEXP_REPLACE(errors[SAFE_OFFSET(0)].path, r"\[([0-9]+|'.*')\]", "[*]") AS path,
        errors[SAFE_OFFSET(0)].rule AS rule
      )))),
      fingerprint
    ) AS cause,
    archive_uri,
    code_version
  FROM `{{ project }}.{{ dataset }}.dead_letters`
) AS letter
LEFT JOIN (
  SELECT
    event_id,
    message_id,
    outcome,
    new_fingerprint,
    replayed_at
  FROM `{{ project }}.{{ dataset }}.replays`
  WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (
    PARTITION BY event_id, message_id
    ORDER BY replayed_at DESC, outcome DESC, new_fingerprint DESC
  ) = 1
) AS last
  ON last.event_id = letter.event_id AND last.message_id = letter.message_id

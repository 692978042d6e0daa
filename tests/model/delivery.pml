/*
 * Delivery: two instances of `ingest` take three events through archive, insert and acknowledge
 * (functions/ingest/stages.py). Meanwhile requests fail or lose their answers, instances crash and Pub/Sub redelivers.
 * With REPAIR, the tables are lost and repaired (`sluice reconcile --repair`). With ERASURE, a person is erased
 * (`sluice erase`). To `drain`, the insert is the writing of a load file. How its rows come into a table is in
 * batch.pml.
 *
 * A set of events is a byte with a bit for each. A step is one request to a service, which takes effect at once or not
 * at all. A crash ends a batch, and so does an error: what they leave is what the steps before have written.
 *
 * The other macros are planted defects, each of which violates a property (tests/model/test_model.py).
 */

#define ALL 7
#define GOOD 1
#define BAD 2 /* The pipeline makes a dead letter of it. */
#define REJECTED 4 /* BigQuery rejects its row, which becomes a dead letter then. */

byte person; /* The event of the person that is erased: any of the three. */

byte acknowledged; /* Events whose acknowledgement Pub/Sub has taken. */
byte archived; /* Events in an object of the archive. */
byte recorded; /* Events with a row or a dead letter. */
byte batch[2]; /* Events that an instance has received, and neither acknowledged nor failed. */

bool is_young; /* BigQuery does not delete the person's row or dead letter yet. */
bool is_lost; /* The tables were lost, and no repair that has begun since is done. */
bool is_repairing;
bool is_erasing; /* An erasure has begun. */
bool is_erased;

/* Faults are unlimited, except where each event has to be acknowledged in the end. */
#ifdef MAX_FAULTS
byte faults;
#define MAY_FAIL faults < MAX_FAULTS
#define FAIL faults++
#else
#define MAY_FAIL true
#define FAIL skip
#endif

#define KEPT(events) ((events) & ~(is_erasing * person))

#define ACKNOWLEDGED_IS_ARCHIVED (KEPT(acknowledged & ~archived) == 0)
#define ACKNOWLEDGED_IS_RECORDED (is_lost || KEPT(acknowledged & ~recorded) == 0)
#define RECORD_HAS_ITS_OBJECT (KEPT(recorded & ~archived) == 0)
#define ERASED_IS_GONE (!is_erased || ((archived | recorded) & person) == 0)

ltl safety { [] (ACKNOWLEDGED_IS_ARCHIVED && ACKNOWLEDGED_IS_RECORDED && RECORD_HAS_ITS_OBJECT && ERASED_IS_GONE) }
ltl acknowledged_is_archived { [] ACKNOWLEDGED_IS_ARCHIVED }
ltl acknowledged_is_recorded { [] ACKNOWLEDGED_IS_RECORDED }
ltl record_has_its_object { [] RECORD_HAS_ITS_OBJECT }
ltl erased_is_gone { [] ERASED_IS_GONE }
ltl each_is_acknowledged { <> (acknowledged == ALL) }

/* Pub/Sub may deliver an event while the other instance has it, and again after it was acknowledged. A person is erased
 * after the last delivery of their events. */
#ifdef DELIVERED_DURING_ERASURE
#define DELIVERABLE ALL
#else
#define DELIVERABLE KEPT(ALL)
#endif

inline deliver(event) {
    atomic {
        DELIVERABLE & event & ~batch[id] && (!(acknowledged & event) || MAY_FAIL);
        if
        :: acknowledged & event -> FAIL
        :: else
        fi;
        batch[id] = batch[id] | event
    }
}

#ifdef FAILED_INSERT_IS_SUCCESS
#define FAILED(event) durable = event
#else
#define FAILED(event) batch[id] = batch[id] & ~event
#endif

/* BigQuery stores a row or a dead letter, or does not, or its answer is lost. Each event takes a step of its own, since
 * each of a request may fail alone. */
inline insert(event) {
    if
    :: recorded = recorded | event; durable = event
    :: MAY_FAIL -> FAIL; recorded = recorded | event; batch[id] = batch[id] & ~event
    :: MAY_FAIL -> FAIL; FAILED(event)
    fi;
    is_young = is_young || (recorded & event & person)
}

proctype instance(bit id) {
    byte durable; /* An event that has to be acknowledged. */
receive:
    do
    :: deliver(GOOD)
    :: deliver(BAD)
    :: deliver(REJECTED)
#ifdef ACKNOWLEDGED_FIRST
    :: atomic { batch[id] -> archived = archived | batch[id]; acknowledged = acknowledged | batch[id]; break }
#else
    :: atomic { batch[id] -> archived = archived | batch[id]; break }
#endif
    /* The answer is lost, or the upload fails. */
    :: atomic { batch[id] && MAY_FAIL -> FAIL; archived = archived | batch[id]; batch[id] = 0 }
#ifdef FAILED_UPLOAD_IS_SUCCESS
    :: atomic { batch[id] && MAY_FAIL -> FAIL; break }
#else
    :: atomic { batch[id] && MAY_FAIL -> FAIL; batch[id] = 0 }
#endif
    od;
    do
    :: atomic { batch[id] & GOOD && !durable -> insert(GOOD) }
#ifdef BAD_EVENT_FAILS_ITS_BATCH
    :: atomic { batch[id] & BAD -> batch[id] = 0; durable = 0; break }
#else
    :: atomic { batch[id] & BAD && !durable -> insert(BAD) }
#endif
#ifdef REJECTED_IS_DROPPED
    :: atomic { batch[id] & REJECTED && !durable -> durable = REJECTED }
#else
    :: atomic { batch[id] & REJECTED && !durable -> insert(REJECTED) }
#endif
    :: atomic { durable -> acknowledged = acknowledged | durable; batch[id] = batch[id] & ~durable; durable = 0 }
    :: atomic { durable && MAY_FAIL -> FAIL; batch[id] = batch[id] & ~durable; durable = 0 }
    :: atomic { batch[id] == 0 -> break }
    :: atomic { batch[id] && MAY_FAIL -> FAIL; batch[id] = 0; durable = 0; break } /* The instance crashes. */
    od;
    goto receive
}

/* `sluice reconcile --repair`: loads what is archived and has no record. */
proctype repair() {
    byte missing;
    bool began_after_loss;
    do
    :: atomic {
           is_repairing = true;
           began_after_loss = is_lost;
           missing = archived & ~recorded
       };
       if
       :: atomic {
#ifdef REJECTED_ROW_IS_NOT_REPAIRED
              missing = missing & ~REJECTED;
#endif
              recorded = recorded | missing;
              is_lost = is_lost && !began_after_loss
          }
       :: atomic { missing & GOOD -> recorded = recorded | GOOD } /* It fails, or crashes. */
       :: atomic { missing & BAD -> recorded = recorded | BAD }
       :: atomic { missing & REJECTED -> recorded = recorded | REJECTED }
       :: true
       fi;
       atomic { missing = 0; began_after_loss = false; is_repairing = false }
    od
}

/* `sluice erase`: the archive before the tables, and at the end what was too young. A crash begins it again. It begins
 * when no delivery of the person's events and no repair is left. */
#ifdef REPAIR_NOT_STOPPED
#define IS_STOPPED true
#else
#define IS_STOPPED !is_repairing
#endif

proctype erasure() {
    atomic {
        (acknowledged & person) && !((batch[0] | batch[1]) & person) && IS_STOPPED;
        is_erasing = true
    };
begin:
#ifdef TABLES_ERASED_FIRST
    atomic { !is_young; recorded = recorded & ~person };
#endif
    if
    :: archived = archived & ~person
    :: goto begin
    fi;
#ifdef YOUNG_ROWS_STAY
    atomic { recorded = recorded & (is_young -> ALL : ~person); is_erased = true; goto done };
#endif
    if
    :: atomic { !is_young -> recorded = recorded & ~person; is_erased = true }
    :: goto begin
    fi;
done:
    skip
}

/* BigQuery: rows grow old, and the tables are lost once. */
proctype tables() {
    bool was_lost;
    do
    :: is_young -> is_young = false
#ifdef REPAIR
    :: atomic { !was_lost -> was_lost = true; is_lost = true; recorded = 0 }
#endif
    od
}

init {
    atomic {
        run instance(0);
        run instance(1);
#ifdef REPAIR
        run repair();
        run tables()
#endif
#ifdef ERASURE
        if
        :: person = GOOD
        :: person = BAD
        :: person = REJECTED
        fi;
        run repair();
        run tables();
        run erasure()
#endif
    }
}

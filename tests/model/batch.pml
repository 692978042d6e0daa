/*
 * The load jobs of batch mode: two runs of `drain` at once bring the rows of three load files into a table, by the
 * ledger (functions/drain/loads.py, functions/drain/ledger.py). Meanwhile files come, requests fail or lose their
 * answers, and runs crash. With JOBS_FAIL there are two files, and load jobs fail, also by a bad row.
 *
 * Here a file has one event. A set of files is a byte with a bit for each. A step is one request to a service, which
 * takes effect at once or not at all. A crash ends a run, and so does an error. A lost answer is a crash: the next run
 * sees what was written.
 *
 * The other macros are planted defects, each of which violates a property (tests/model/test_model.py).
 */

#define FILES 3
#define JOBS 16 /* Two of each set of files. */
#define SET(number) (1 << (number))
#define FIRST(set) ((set) & 1 -> 0 : ((set) & 2 -> 1 : 2))

byte bad; /* The file whose row fails a load job, and becomes a dead letter if it is inserted alone; or none. */

byte written; /* Files that were written; their events are archived and acknowledged. */
byte files; /* Files that are there. */
byte loaded; /* Files that a job has loaded. */
byte inserted; /* Files whose rows were inserted one by one. */
bool is_loaded_twice; /* The rows of a file came by two jobs, or by a job and one by one. */
bool is_lacking; /* A job was started without one of its files. */

/* The ledger. A load is at the place of its first file. The id of its job consists of its files and a generation. */
byte generation;
byte ledger_files[FILES];
byte ledger_generation[FILES];

/* The jobs of BigQuery. */
mtype = { RUNNING, DONE, FAILED, BAD_ROW };
mtype job_state[JOBS]; /* 0 where there is no such job. */
byte job_generation[JOBS];
bool has_failed; /* A job without a bad row fails once. */

#ifdef MAX_FAULTS
byte faults;
#define MAY_FAIL faults < MAX_FAULTS
#define FAIL faults++
#else
#define MAY_FAIL true
#define FAIL skip
#endif

#define NOTHING_IS_LOST ((written & ~(files | loaded | inserted)) == 0)
#define FILE_IS_LOADED_ONCE (!is_loaded_twice)
#define JOB_HAS_ITS_FILES (!is_lacking)

ltl safety { [] (NOTHING_IS_LOST && FILE_IS_LOADED_ONCE && JOB_HAS_ITS_FILES) }
ltl nothing_is_lost { [] NOTHING_IS_LOST }
ltl file_is_loaded_once { [] FILE_IS_LOADED_ONCE }
ltl job_has_its_files { [] JOB_HAS_ITS_FILES }
ltl each_is_loaded { <> ((loaded | inserted) == 3 && files == 0) }

inline read_ledger() {
    d_step {
        read_generation = generation;
        do
        :: number < FILES ->
           load_files[number] = ledger_files[number];
           load_generation[number] = ledger_generation[number];
           to_look_up = to_look_up | (load_files[number] -> SET(number) : 0);
           number++
        :: else -> break
        od;
        number = 0
    }
}

inline replace_ledger() {
    do
    :: number < FILES ->
       ledger_files[number] = load_files[number];
       ledger_generation[number] = load_generation[number];
       number++
    :: else -> break
    od;
    number = 0;
    generation++
}

/* Find the job of a load, or the place of a new one. */
inline find_job() {
    job = 2 * load_files[number];
    if
    :: job_state[job] && job_generation[job] != load_generation[number] -> job++
    :: else
    fi;
    assert(!job_state[job] || job_generation[job] == load_generation[number])
}

inline start_job() {
    find_job();
#ifdef JOB_ID_IS_RANDOM
    job = job + (job_state[job] -> 1 : 0);
#endif
    if
    :: !job_state[job] ->
       job_state[job] = RUNNING;
       job_generation[job] = load_generation[number];
       is_lacking = is_lacking || (load_files[number] & ~files)
    :: else /* Its id is taken. */
    fi;
    job = 0
}

inline start_jobs() {
    do
    :: atomic {
           to_start ->
           number = FIRST(to_start);
           to_start = to_start & ~SET(number);
           start_job();
#ifndef STARTED_BEFORE_LEDGER
           load_files[number] = 0;
           load_generation[number] = 0;
#endif
           number = 0
       }
    :: atomic { to_start && MAY_FAIL -> FAIL; goto ended }
    :: to_start == 0 -> break
    od
}

/* A new load, or another one in the place of a load. */
inline plan(set) {
    load_files[FIRST(set)] = set;
    load_generation[FIRST(set)] = read_generation;
    to_start = to_start | SET(FIRST(set));
    is_changed = true
}

inline drop(place) {
    load_files[place] = 0;
    load_generation[place] = 0;
    is_changed = true
}

inline forget() {
    d_step {
        read_generation = 0;
        listed = 0;
        to_look_up = 0;
        to_delete = 0;
        to_start = 0;
        to_insert = 0;
        has_read = false;
        is_changed = false;
        is_paused = false;
        number = 0;
        job = 0;
        do
        :: number < FILES -> load_files[number] = 0; load_generation[number] = 0; number++
        :: else -> break
        od;
        number = 0
    }
}

#ifdef RUNNING_IS_DONE
#define IS_DONE(job) (job_state[job] == DONE || job_state[job] == RUNNING)
#elif defined(FAILED_IS_DONE)
#define IS_DONE(job) (job_state[job] == DONE || job_state[job] == FAILED)
#else
#define IS_DONE(job) (job_state[job] == DONE)
#endif

#ifdef NOT_STARTED_AGAIN
#define START_AGAIN skip
#else
#define START_AGAIN to_start = to_start | SET(number)
#endif

#ifdef LEDGER_REPLACED_BLINDLY
#define IS_UNCHANGED true
#else
#define IS_UNCHANGED (generation == read_generation)
#endif

proctype advance() {
    byte read_generation, load_files[FILES], load_generation[FILES];
    byte listed, to_delete, to_insert; /* Files. */
    byte to_look_up, to_start; /* Loads, by their first files. */
    byte number, job;
    bool has_read, is_changed, is_paused;
begin:
#ifdef FILES_LISTED_FIRST
    listed = files;
    read_ledger();
#else
    read_ledger();
#endif
    atomic {
#ifndef FILES_LISTED_FIRST
        listed = files;
#endif
        /* The jobs are looked up at once, each of which changes independently of the others. */
        do
        :: number < FILES && to_look_up & SET(number) ->
           find_job();
           if
           :: !job_state[job] -> START_AGAIN
           :: job_state[job] == RUNNING && !IS_DONE(job)
           :: IS_DONE(job) -> to_delete = to_delete | load_files[number]; drop(number)
           :: job_state[job] == FAILED && !IS_DONE(job) -> drop(number); is_paused = true
           :: job_state[job] == BAD_ROW && load_files[number] == SET(number) ->
              to_insert = to_insert | SET(number)
           :: job_state[job] == BAD_ROW && load_files[number] != SET(number) ->
              job = load_files[number] & ~SET(number);
              plan(SET(number));
              plan(job)
           fi;
           job = 0;
           number++
        :: number < FILES && !(to_look_up & SET(number)) -> number++
        :: number == FILES -> break
        od;
        number = 0;
        to_look_up = 0;
        to_delete = to_delete & listed
    };
    do
    /* The rows of a file are inserted one by one, unless another run has done so and deleted it. */
    :: atomic { to_insert && !has_read && (files & to_insert) -> has_read = true }
    :: atomic {
           to_insert && !has_read && !(files & to_insert) ->
           to_delete = to_delete | (to_insert & listed);
           drop(FIRST(to_insert));
           to_insert = 0
       }
    :: atomic {
           has_read ->
           is_loaded_twice = is_loaded_twice || (loaded & to_insert);
           inserted = inserted | to_insert;
           to_delete = to_delete | (to_insert & listed);
           drop(FIRST(to_insert));
           to_insert = 0;
           has_read = false
       }
    :: atomic { has_read && MAY_FAIL -> FAIL; to_insert = 0; has_read = false }
    :: atomic {
           to_delete ->
           number = FIRST(to_delete);
           files = files & ~SET(number);
           listed = listed & ~SET(number);
           to_delete = to_delete & ~SET(number);
           number = 0
       }
    :: atomic {
           !to_delete && !to_insert ->
           job = listed & ~(load_files[0] | load_files[1] | load_files[2]);
           if
           :: job && !to_start && !is_paused -> plan(job)
           :: else
           fi;
           job = 0;
           listed = 0;
           is_paused = false;
           break
       }
    :: atomic { MAY_FAIL -> FAIL; goto ended }
    od;
#ifdef STARTED_BEFORE_LEDGER
    start_jobs();
#endif
    if
    :: atomic { is_changed && IS_UNCHANGED -> replace_ledger() }
    :: atomic { is_changed && !IS_UNCHANGED -> goto ended }
    :: !is_changed
    :: atomic { MAY_FAIL -> FAIL; goto ended }
    fi;
    d_step { /* Only what has to be started is kept. */
        read_generation = 0;
        is_changed = false;
        do
        :: number < FILES ->
           if
           :: !(to_start & SET(number)) -> load_files[number] = 0; load_generation[number] = 0
           :: else
           fi;
           number++
        :: else -> break
        od;
        number = 0
    };
    start_jobs();
ended:
    forget();
    goto begin
}

/* BigQuery: a job loads the rows of all its files, or fails and loads none. */
inline end_job(job) {
    atomic {
        job_state[job] == RUNNING ->
        if
        :: (job / 2) & bad -> job_state[job] = BAD_ROW
        :: !((job / 2) & bad) ->
           job_state[job] = DONE;
           is_loaded_twice = is_loaded_twice || ((job / 2) & (loaded | inserted));
           loaded = loaded | (job / 2)
#ifdef JOBS_FAIL
        :: !has_failed -> has_failed = true; job_state[job] = FAILED
#endif
        fi
    }
}

proctype run_jobs() {
    do
    :: end_job(2)
    :: end_job(3)
    :: end_job(4)
    :: end_job(5)
    :: end_job(6)
    :: end_job(7)
#ifndef JOBS_FAIL
    :: end_job(8)
    :: end_job(9)
    :: end_job(10)
    :: end_job(11)
    :: end_job(12)
    :: end_job(13)
    :: end_job(14)
    :: end_job(15)
#endif
    od
}

proctype write_files() {
    atomic { files = files | 1; written = written | 1 };
    atomic { files = files | 2; written = written | 2 };
#ifndef JOBS_FAIL
    atomic { files = files | 4; written = written | 4 }
#endif
}

init {
    atomic {
#ifdef JOBS_FAIL
        if
        :: bad = 0
        :: bad = 1
        :: bad = 2
        fi;
#endif
        run advance();
        run advance();
        run run_jobs();
        run write_files()
    }
}

/*
 * An hour of the archive: compactions (functions/archive/compaction.py), the erasure of a person
 * (functions/archive/rewriter.py, sluice/erase/archive.py) and a reader (functions/archive/reader.py). Meanwhile an
 * object comes late, and compactions and the erasure crash or fail at any step.
 *
 * Three events, in three original objects: the first has one of others and the person's. The second, which may come
 * late, has one of others. The third has the person's again, since it was delivered twice. A set of objects or lines is
 * a byte with a bit for each. A step is one request to Cloud Storage, which takes effect at once or not at all. A list
 * is two steps, since originals sort before compacted objects.
 *
 * Generations are not counted: each process has the set of objects that are as it has listed, read or written them.
 *
 * ONE_COMPACTION, ERASURE, READER and LATE_OBJECT choose what there is. With SIMPLE_WRITES a compaction takes all
 * originals at once, and no upload is damaged. The other macros are planted defects, each of which violates a property
 * (tests/model/test_model.py).
 */

/* Lines. */
#define OTHERS 5 /* 1 in the first object, 4 in the second. */
#define PERSON 10 /* 2 in the first object, 8 in the third. */

/* Objects. */
#define LATE 2
#define LINES_OF(objects) (((objects) & 1) * 3 | ((objects) & 6) * 2)
#define FIRST(objects) ((objects) & 1 -> 1 : ((objects) & 2 -> 2 : 4))
#define LAST(objects) ((objects) & 4 -> 4 : ((objects) & 2 -> 2 : 1))
#define OBJECTS_OF(lines) (((lines) & 3 -> 1 : 0) | ((lines) & 12) / 2)

/* A compacted object has the name of its first and last original: a set of one or two of them. */
#define NAMES 7
#define NAME(objects) (FIRST(objects) | LAST(objects))
#define HAS(name, object) ((object) >= FIRST(name) && (object) <= LAST(name))
#define HAS_ANY(name, objects) \
    (((objects) & 1 && HAS(name, 1)) || ((objects) & 2 && HAS(name, 2)) || ((objects) & 4 && HAS(name, 4)))
#define SET(name) (1 << (name))
#define LOWEST(names) \
    ((names) & 2 -> 1 : ((names) & 4 -> 2 : ((names) & 8 -> 3 : ((names) & 16 -> 4 : ((names) & 32 -> 5 : 6)))))

byte originals = 5; /* Original objects that are there. */
byte lines = 11; /* Lines in them. */
byte arrived = 1; /* Lines of others that are archived. */

byte compacted; /* Names of compacted objects that are there. */
byte finished; /* Names of those that count. */
byte copies[NAMES]; /* Lines in them. */

/* Objects that have not changed since a compaction has listed them, or the erasure has read them. */
byte originals_unchanged[3];
byte compacted_unchanged[3];
#define ERASER 2

bool is_erased;

/* What must never be. */
bool is_lost; /* A line of others does not count. */
bool is_counted_twice;
bool is_kept; /* A line of the person is in an object that counts, though they are erased. */
bool is_misread; /* A reader has missed a line of others, or has counted a line twice. */

#ifdef MAX_FAULTS
byte faults;
#define MAY_FAIL faults < MAX_FAULTS
#define FAIL faults++
#else
#define MAY_FAIL true
#define FAIL skip
#endif

/* What counts of a compacted object: the lines whose original is not there. */
#define SHOWN(name) (((finished >> (name)) & 1) * (copies[name] & ~LINES_OF(originals)))
#define ALL_SHOWN (SHOWN(1) | SHOWN(2) | SHOWN(3) | SHOWN(4) | SHOWN(5) | SHOWN(6))
#define TWICE_SHOWN \
    ((SHOWN(1) & SHOWN(2)) | ((SHOWN(1) | SHOWN(2)) & SHOWN(3)) | ((SHOWN(1) | SHOWN(2) | SHOWN(3)) & SHOWN(4)) | \
     ((SHOWN(1) | SHOWN(2) | SHOWN(3) | SHOWN(4)) & SHOWN(5)) | \
     ((SHOWN(1) | SHOWN(2) | SHOWN(3) | SHOWN(4) | SHOWN(5)) & SHOWN(6)))
#define COPIES (copies[1] | copies[2] | copies[3] | copies[4] | copies[5] | copies[6])
#define FINISHED_COPY(name) (((finished >> (name)) & 1) * copies[name])
#define FINISHED_COPIES \
    (FINISHED_COPY(1) | FINISHED_COPY(2) | FINISHED_COPY(3) | FINISHED_COPY(4) | FINISHED_COPY(5) | FINISHED_COPY(6))

ltl safety { [] !(is_lost || is_counted_twice || is_misread || is_kept) }
ltl nothing_is_lost { [] !is_lost }
ltl nothing_counts_twice { [] !is_counted_twice }
ltl reader_sees_each_once { [] !is_misread }
ltl erased_is_gone { [] !is_kept }
ltl all_copies_go { <> [] (is_erased && (COPIES & PERSON) == 0) }

proctype watch() {
    do
    :: !is_lost && (arrived & ~(lines | ALL_SHOWN)) -> is_lost = true
    :: !is_counted_twice && TWICE_SHOWN -> is_counted_twice = true
    :: !is_kept && is_erased && ((lines | FINISHED_COPIES) & PERSON) -> is_kept = true
    od
}

inline change_original(object) {
    originals_unchanged[0] = originals_unchanged[0] & ~(object);
    originals_unchanged[1] = originals_unchanged[1] & ~(object);
    originals_unchanged[ERASER] = originals_unchanged[ERASER] & ~(object)
}

inline change_compacted(name) {
    compacted_unchanged[0] = compacted_unchanged[0] & ~SET(name);
    compacted_unchanged[1] = compacted_unchanged[1] & ~SET(name);
    compacted_unchanged[ERASER] = compacted_unchanged[ERASER] & ~SET(name)
}

inline delete_original(object) {
    originals = originals & ~(object);
    lines = lines & ~LINES_OF(object);
    change_original(object)
}

inline delete_compacted(name) {
    compacted = compacted & ~SET(name);
    finished = finished & ~SET(name);
    copies[name] = 0;
    change_compacted(name)
}

/* The original is deleted if it is as it was listed. */
inline delete_listed(objects) {
    if
    :: originals_unchanged[id] & FIRST(objects) -> delete_original(FIRST(objects))
    :: else
    fi;
    objects = objects & ~FIRST(objects)
}

inline delete_written() {
    do
    :: atomic { written -> delete_listed(written) }
    :: !written -> break
    :: atomic { MAY_FAIL -> FAIL; goto ended }
    od
}

inline delete_own() {
    if
    :: compacted_unchanged[id] & SET(own) -> delete_compacted(own)
    :: else
    fi
}

#ifdef SIMPLE_WRITES
#define IS_LARGE_ENOUGH !(listed & ~written)
#else
#define IS_LARGE_ENOUGH true
#endif

proctype compact(bit id) {
    byte listed, candidates, known; /* Originals, and compacted objects: all, and finished ones. */
    byte to_delete, written, content, own, name;
begin:
    atomic { listed = originals; originals_unchanged[id] = originals };
    atomic { candidates = compacted; known = finished; compacted_unchanged[id] = compacted };
    do
    :: atomic { to_delete -> delete_listed(to_delete) }
    :: atomic {
           !to_delete && candidates ->
           name = LOWEST(candidates);
           candidates = candidates & ~SET(name);
           if
           :: (known & SET(name)) && !(compacted & SET(name)) -> goto ended /* The erasure has deleted it. */
           :: (known & SET(name)) && (compacted & SET(name)) ->
              to_delete = listed & OBJECTS_OF(copies[name]);
              listed = listed & ~to_delete
#ifdef UNFINISHED_STAYS
           :: false
#elif defined(UNFINISHED_IS_DELETED_BLINDLY)
           :: !(known & SET(name)) -> delete_compacted(name)
#else
           :: !(known & SET(name)) && (compacted_unchanged[id] & SET(name)) -> delete_compacted(name)
#endif
           :: else
           fi;
           name = 0
       }
    :: atomic {
           !to_delete && !candidates ->
           if
           :: listed == FIRST(listed) && !known -> goto ended /* One object stays as it is. */
           :: else -> break
           fi
       }
    :: atomic { MAY_FAIL -> FAIL; goto ended }
    od;
    do
    :: listed == 0 -> goto ended
    :: atomic {
           listed -> /* It reads originals, in their order, until the object is large enough. */
           written = FIRST(listed);
           do
           :: listed & ~written -> written = written | FIRST(listed & ~written)
           :: IS_LARGE_ENOUGH -> break
           od;
           if
           :: written & ~originals_unchanged[id] -> goto ended
           :: else
           fi;
           content = lines & LINES_OF(written);
           listed = listed & ~written
       };
       atomic {
           own = NAME(written);
           if
           :: compacted & SET(own) -> goto ended
           :: else
           fi;
           compacted = compacted | SET(own);
           compacted_unchanged[id] = compacted_unchanged[id] | SET(own);
           copies[own] = content;
           if
           :: true
#ifndef SIMPLE_WRITES
           :: MAY_FAIL -> FAIL; copies[own] = content & ~(content & -content) /* It lacks a line. */
#endif
           :: MAY_FAIL -> FAIL; goto ended
           fi
       };
       atomic {
           if
           :: !(compacted_unchanged[id] & SET(own)) -> goto ended
#ifndef NOT_VERIFIED
           :: (compacted_unchanged[id] & SET(own)) && copies[own] != content -> delete_own(); goto ended
           :: (compacted_unchanged[id] & SET(own)) && copies[own] == content -> content = 0
#else
           :: (compacted_unchanged[id] & SET(own)) -> content = 0
#endif
           fi
       };
#ifdef DELETED_BEFORE_FINISHED
       delete_written();
#endif
       /* It lists again: are all originals as they were read, and is no other compacted object there? */
#ifndef ORIGINALS_NOT_LISTED_AGAIN
       if
       :: !(written & ~originals_unchanged[id])
       :: written & ~originals_unchanged[id] -> goto abandon
       :: atomic { MAY_FAIL -> FAIL; goto ended }
       fi;
#endif
#ifndef COMPACTED_NOT_LISTED_AGAIN
       if
       :: !(compacted & ~known & ~SET(own))
       :: compacted & ~known & ~SET(own) -> goto abandon
       :: atomic { MAY_FAIL -> FAIL; goto ended }
       fi;
#endif
       if
       :: atomic {
              compacted_unchanged[id] & SET(own) ->
              finished = finished | SET(own);
              change_compacted(own);
              known = known | SET(own);
              own = 0
          }
       :: !(compacted_unchanged[id] & SET(own)) -> goto ended
       :: atomic { MAY_FAIL -> FAIL; goto ended }
       fi;
       delete_written()
    od;
abandon:
    atomic { delete_own() };
ended:
    atomic {
        listed = 0;
        candidates = 0;
        known = 0;
        to_delete = 0;
        written = 0;
        content = 0;
        own = 0;
        name = 0;
        originals_unchanged[id] = 0;
        compacted_unchanged[id] = 0
    };
    goto begin
}

/* Rewrites originals, and compacted objects in any state, without the person's lines, or deletes them where no other
 * line is left. Several threads do it in any order. */
inline rewrite(allowed) {
    do
    :: atomic {
           originals_to_read && !original ->
           if
           :: !(originals & FIRST(originals_to_read)) -> touched = touched | FIRST(originals_to_read)
           :: lines & PERSON & LINES_OF(FIRST(originals_to_read)) ->
              original = FIRST(originals_to_read);
              originals_unchanged[ERASER] = original
           :: else
           fi;
           originals_to_read = originals_to_read & ~(original -> 0 : FIRST(originals_to_read))
       }
    :: atomic {
           original ->
           if
           :: originals_unchanged[ERASER] & original ->
              touched = touched | original;
              originals_to_read = originals_to_read & ~original;
              lines = lines & ~(PERSON & LINES_OF(original));
              if
              :: !(lines & LINES_OF(original)) -> delete_original(original)
              :: else -> change_original(original)
              fi
           :: else /* It has changed, and is read again. */
           fi;
           original = 0
       }
    :: atomic {
           compacted_to_read && !name ->
           name = LOWEST(compacted_to_read);
           if
           :: copies[name] & PERSON & (allowed) ->
#ifdef REWRITTEN_BLINDLY
              was_finished = finished & SET(name);
#endif
              compacted_unchanged[ERASER] = SET(name)
           :: else -> compacted_to_read = compacted_to_read & ~SET(name); name = 0
           fi
       }
    :: atomic {
           name ->
           if
#ifdef REWRITTEN_BLINDLY
           :: compacted & SET(name) ->
              finished = (finished & ~SET(name)) | was_finished;
              was_finished = 0;
#else
           :: compacted_unchanged[ERASER] & SET(name) ->
#endif
              copies[name] = copies[name] & ~(PERSON & (allowed));
              compacted_to_read = compacted_to_read & ~SET(name);
              if
              :: !copies[name] -> delete_compacted(name)
              :: else -> change_compacted(name)
              fi
           :: else
           fi;
           name = 0
       }
    :: !originals_to_read && !compacted_to_read -> break
    :: atomic { MAY_FAIL -> FAIL; goto ended }
    od
}

proctype erase() {
    byte originals_to_read, compacted_to_read, touched, original, name, was_finished;
begin:
    originals_to_read = originals;
    compacted_to_read = compacted;
    rewrite(LINES_OF(7));
#ifndef ERASED_ONCE
    /* A compaction may have read an original before it was rewritten, so the compacted objects are listed again. */
    atomic {
        name = 1;
        do
        :: name < NAMES ->
           if
           :: (compacted & SET(name)) && HAS_ANY(name, touched) -> compacted_to_read = compacted_to_read | SET(name)
           :: else
           fi;
           name++
        :: else -> break
        od;
        name = 0
    };
    rewrite(LINES_OF(touched));
#endif
    atomic { is_erased = true; goto done };
ended:
    atomic {
        originals_to_read = 0;
        compacted_to_read = 0;
        touched = 0;
        original = 0;
        name = 0;
        originals_unchanged[ERASER] = 0;
        compacted_unchanged[ERASER] = 0
    };
    goto begin;
done:
    atomic { touched = 0 }
}

inline count(read) {
    new = read;
    is_misread = is_misread || (seen & new);
    seen = seen | new;
    new = 0
}

/* Reads all events of the hour. */
proctype read() {
    byte expected, listed, to_read, seen, new, counted, name;
    do
    :: atomic { expected = arrived; listed = originals; to_read = originals };
#ifdef UNFINISHED_COUNTS
       counted = compacted;
#else
       counted = finished;
#endif
       do
       :: atomic {
              to_read ->
              new = lines & LINES_OF(FIRST(to_read));
              if
#ifndef DELETED_IS_NOT_LOOKED_UP
              :: !(originals & FIRST(to_read)) -> /* Deleted since, so a compacted object has it. */
                 new = FINISHED_COPIES & LINES_OF(FIRST(to_read))
#endif
              :: else
              fi;
              count(new);
              to_read = to_read & ~FIRST(to_read)
          }
       :: atomic {
              !to_read && counted ->
              name = LOWEST(counted);
              count(copies[name] & ~LINES_OF(listed));
              counted = counted & ~SET(name);
              name = 0
          }
       :: !to_read && !counted -> break
       od;
       atomic {
           is_misread = is_misread || (expected & ~seen);
           expected = 0;
           listed = 0;
           seen = 0
       }
    od
}

proctype come_late() {
    atomic { originals = originals | LATE; lines = lines | LINES_OF(LATE); arrived = arrived | LINES_OF(LATE) }
}

init {
    atomic {
        run compact(0);
#ifndef ONE_COMPACTION
        run compact(1);
#endif
#ifdef ERASURE
        run erase();
#endif
#ifdef READER
        run read();
#endif
#ifdef LATE_OBJECT
        run come_late();
#endif
        run watch()
    }
}

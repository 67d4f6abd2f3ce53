//! SmartModules in WebAssembly text, so that these tests need no WebAssembly compiler.
//!
//! The guest's input is `base offset i64 | length i32 | count i32, records | …`, its output
//! `count i32, records | error`. Memory is handed out upwards and never freed, like the guest code
//! that `fluvio-smartmodule` generates.

/// What all modules share: memory, `alloc`, big-endian integers, and the size of a record.
const COMMON: &str = r#"
  (import "env" "copy_records" (func $copy_records (param i32 i32)))
  (memory (export "memory") 2)
  (global $free (mut i32) (i32.const 1024))
  (global $every (mut i32) (i32.const 1))
  (func $alloc (export "alloc") (param $len i32) (result i32)
    (local $ptr i32) (local $missing i32)
    (local.set $ptr (global.get $free))
    (global.set $free (i32.add (local.get $ptr) (local.get $len)))
    (local.set $missing (i32.sub (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
    (if (i32.gt_s (local.get $missing) (i32.const 0))
      (then (drop (memory.grow (i32.add (i32.div_u (local.get $missing) (i32.const 65536)) (i32.const 1))))))
    (local.get $ptr))
  (func $get32 (param $at i32) (result i32)
    (i32.or
      (i32.or (i32.shl (i32.load8_u (local.get $at)) (i32.const 24)) (i32.shl (i32.load8_u offset=1 (local.get $at)) (i32.const 16)))
      (i32.or (i32.shl (i32.load8_u offset=2 (local.get $at)) (i32.const 8)) (i32.load8_u offset=3 (local.get $at)))))
  (func $put32 (param $at i32) (param $value i32)
    (i32.store8 (local.get $at) (i32.shr_u (local.get $value) (i32.const 24)))
    (i32.store8 offset=1 (local.get $at) (i32.shr_u (local.get $value) (i32.const 16)))
    (i32.store8 offset=2 (local.get $at) (i32.shr_u (local.get $value) (i32.const 8)))
    (i32.store8 offset=3 (local.get $at) (local.get $value)))
  (func $record_size (param $at i32) (result i32)
    (local $value i32) (local $shift i32) (local $byte i32) (local $start i32)
    (local.set $start (local.get $at))
    (loop $more
      (local.set $byte (i32.load8_u (local.get $at)))
      (local.set $value (i32.or (local.get $value) (i32.shl (i32.and (local.get $byte) (i32.const 127)) (local.get $shift))))
      (local.set $shift (i32.add (local.get $shift) (i32.const 7)))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $more (i32.and (local.get $byte) (i32.const 128))))
    (i32.add (i32.sub (local.get $at) (local.get $start)) (i32.shr_u (local.get $value) (i32.const 1))))
"#;

/// Copies the records for which `$keep` holds, up to `$limit` looked at; `copied` then changes the
/// copy, which lies at `$to` and has `$size` bytes.
fn select(keep: &str, copied: &str) -> String {
    format!(
        r#"
  (func $select (param $ptr i32) (param $out i32) (param $limit i32) (result i32)
    (local $count i32) (local $index i32) (local $kept i32) (local $at i32) (local $to i32) (local $size i32)
    (local.set $count (call $get32 (i32.add (local.get $ptr) (i32.const 12))))
    (if (i32.gt_s (local.get $count) (local.get $limit)) (then (local.set $count (local.get $limit))))
    (local.set $at (i32.add (local.get $ptr) (i32.const 16)))
    (local.set $to (i32.add (local.get $out) (i32.const 4)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_s (local.get $index) (local.get $count)))
        (local.set $size (call $record_size (local.get $at)))
        (if {keep}
          (then
            (memory.copy (local.get $to) (local.get $at) (local.get $size))
            {copied}
            (local.set $to (i32.add (local.get $to) (local.get $size)))
            (local.set $kept (i32.add (local.get $kept) (i32.const 1)))))
        (local.set $at (i32.add (local.get $at) (local.get $size)))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    (call $put32 (local.get $out) (local.get $kept))
    (local.get $to))"#
    )
}

/// Exports what `$select` leaves, of which there is at most twice the input, as the module's function.
fn export(kind: &str) -> String {
    format!(
        r#"
  (func (export "{kind}") (param $ptr i32) (param $len i32) (param $version i32) (result i32)
    (local $out i32) (local $end i32)
    (local.set $out (call $alloc (i32.add (i32.mul (local.get $len) (i32.const 2)) (i32.const 64))))
    (local.set $end (call $select (local.get $ptr) (local.get $out) (i32.const 2147483647)))
    (i32.store8 (local.get $end) (i32.const 0))
    (call $copy_records (local.get $out) (i32.add (i32.sub (local.get $end) (local.get $out)) (i32.const 1)))
    (i32.const 0))"#
    )
}

/// True for the records whose index in the batch is divisible by `$every`.
const INDEX_DIVISIBLE: &str = "(i32.eqz (i32.rem_u (local.get $index) (global.get $every)))";
const ALL: &str = "(i32.const 1)";

/// A map that returns every record as it is.
pub(crate) fn identity() -> String {
    format!("(module {COMMON} {} {})", select(ALL, ""), export("map"))
}

/// A filter that keeps the records whose index in the batch is divisible by its only parameter, a digit.
pub(crate) fn every() -> String {
    let (select, filter) = (select(INDEX_DIVISIBLE, ""), export("filter"));
    format!(
        r#"(module {COMMON} {select} {filter}
  (func (export "init") (param $ptr i32) (param $len i32) (param $version i32) (result i32)
    (local $key_len i32)
    ;; count u16 | key length u16 | key | value length u16 | value
    (if (i32.eqz (i32.load8_u offset=1 (local.get $ptr))) (then (return (i32.const -1))))
    (local.set $key_len (i32.load8_u offset=3 (local.get $ptr)))
    (global.set $every (i32.sub (i32.load8_u offset=6 (i32.add (local.get $ptr) (local.get $key_len))) (i32.const 48)))
    (i32.const 0)))"#
    )
}

/// A filter map that keeps every second record of a batch and adds one to the last byte of its value.
pub(crate) fn second_incremented() -> String {
    let even = "(i32.eqz (i32.and (local.get $index) (i32.const 1)))";
    // The last byte of a record counts its headers.
    let increment = r#"
            (i32.store8 (i32.sub (i32.add (local.get $to) (local.get $size)) (i32.const 2))
              (i32.add (i32.load8_u (i32.sub (i32.add (local.get $to) (local.get $size)) (i32.const 2))) (i32.const 1)))"#;
    format!(
        "(module {COMMON} {} {})",
        select(even, increment),
        export("filter_map")
    )
}

/// An array map that returns every record twice.
pub(crate) fn twice() -> String {
    let again = r#"
            (local.set $to (i32.add (local.get $to) (local.get $size)))
            (memory.copy (local.get $to) (local.get $at) (local.get $size))
            (local.set $kept (i32.add (local.get $kept) (i32.const 1)))"#;
    format!(
        "(module {COMMON} {} {})",
        select(ALL, again),
        export("array_map")
    )
}

/// An aggregate whose accumulator is the last bytes of all values, one after the other: up to 50.
pub(crate) fn last_bytes() -> String {
    format!(
        r#"(module {COMMON}
  (func (export "aggregate") (param $ptr i32) (param $len i32) (param $version i32) (result i32)
    (local $count i32) (local $index i32) (local $at i32) (local $end i32) (local $acc i32) (local $n i32) (local $out i32) (local $to i32)
    (local.set $count (call $get32 (i32.add (local.get $ptr) (i32.const 12))))
    (local.set $at (i32.add (local.get $ptr) (i32.const 16)))
    (local.set $out (call $alloc (i32.add (i32.mul (local.get $count) (i32.const 64)) (i32.const 128))))
    ;; behind the records: [parameters u16, look back u8, join i32 up to version 22] | time i64 | accumulator
    (local.set $acc (i32.add (local.get $ptr)
      (i32.add (i32.add (i32.const 12) (call $get32 (i32.add (local.get $ptr) (i32.const 8))))
        (select (i32.const 15) (i32.const 8) (i32.le_s (local.get $version) (i32.const 22))))))
    (local.set $n (call $get32 (local.get $acc)))
    (local.set $end (call $alloc (i32.const 64)))
    (memory.copy (local.get $end) (i32.add (local.get $acc) (i32.const 4)) (local.get $n))
    (local.set $acc (local.get $end))
    (call $put32 (local.get $out) (local.get $count))
    (local.set $to (i32.add (local.get $out) (i32.const 4)))
    (block $done
      (loop $next
        (br_if $done (i32.ge_s (local.get $index) (local.get $count)))
        (local.set $at (i32.add (local.get $at) (call $record_size (local.get $at))))
        (i32.store8 (i32.add (local.get $acc) (local.get $n)) (i32.load8_u (i32.sub (local.get $at) (i32.const 2))))
        (local.set $n (i32.add (local.get $n) (i32.const 1)))
        ;; length | attributes | time delta | offset delta | no key | value | no headers
        (i32.store8 (local.get $to) (i32.mul (i32.add (local.get $n) (i32.const 6)) (i32.const 2)))
        (i32.store8 offset=1 (local.get $to) (i32.const 0))
        (i32.store8 offset=2 (local.get $to) (i32.const 0))
        (i32.store8 offset=3 (local.get $to) (i32.mul (local.get $index) (i32.const 2)))
        (i32.store8 offset=4 (local.get $to) (i32.const 0))
        (i32.store8 offset=5 (local.get $to) (i32.mul (local.get $n) (i32.const 2)))
        (memory.copy (i32.add (local.get $to) (i32.const 6)) (local.get $acc) (local.get $n))
        (local.set $to (i32.add (local.get $to) (i32.add (local.get $n) (i32.const 6))))
        (i32.store8 (local.get $to) (i32.const 0))
        (local.set $to (i32.add (local.get $to) (i32.const 1)))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    ;; no error | accumulator
    (i32.store8 (local.get $to) (i32.const 0))
    (call $put32 (i32.add (local.get $to) (i32.const 1)) (local.get $n))
    (memory.copy (i32.add (local.get $to) (i32.const 5)) (local.get $acc) (local.get $n))
    (call $copy_records (local.get $out) (i32.add (i32.sub (local.get $to) (local.get $out)) (i32.add (local.get $n) (i32.const 5))))
    (i32.const 0)))"#
    )
}

/// A filter that drops what equals, in key and value, one of the last records that it kept or was
/// shown: as many as its parameter `count` says, up to 64.
pub(crate) fn unseen() -> String {
    let (select, filter) = (
        select("(call $is_new (call $hash (local.get $at)))", ""),
        export("filter"),
    );
    format!(
        r#"(module {COMMON} {select} {filter}
  (global $window (mut i32) (i32.const 64))
  (global $kept (mut i32) (i32.const 0))
  (func $skip_varint (param $at i32) (result i32)
    (loop $more
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $more (i32.and (i32.load8_u (i32.sub (local.get $at) (i32.const 1))) (i32.const 128))))
    (local.get $at))
  ;; FNV-1a of what follows the offset delta
  (func $hash (param $at i32) (result i64)
    (local $end i32) (local $hash i64)
    (local.set $end (i32.add (local.get $at) (call $record_size (local.get $at))))
    (local.set $at (i32.add (call $skip_varint (local.get $at)) (i32.const 1)))
    (local.set $at (call $skip_varint (call $skip_varint (local.get $at))))
    (local.set $hash (i64.const 0xcbf29ce484222325))
    (loop $next
      (local.set $hash (i64.mul (i64.const 0x100000001b3) (i64.xor (local.get $hash) (i64.load8_u (local.get $at)))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $next (i32.lt_u (local.get $at) (local.get $end))))
    (local.get $hash))
  ;; the ring of hashes lies at 256
  (func $is_new (param $hash i64) (result i32)
    (local $index i32)
    (block $new
      (loop $next
        (br_if $new (i32.ge_s (local.get $index) (global.get $window)))
        (br_if $new (i32.ge_s (local.get $index) (global.get $kept)))
        (if (i64.eq (local.get $hash) (i64.load (i32.add (i32.const 256) (i32.mul (local.get $index) (i32.const 8)))))
          (then (return (i32.const 0))))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    (i64.store
      (i32.add (i32.const 256) (i32.mul (i32.rem_u (global.get $kept) (global.get $window)) (i32.const 8)))
      (local.get $hash))
    (global.set $kept (i32.add (global.get $kept) (i32.const 1)))
    (i32.const 1))
  (func (export "look_back") (param $ptr i32) (param $len i32) (param $version i32) (result i32)
    (drop (call $select (local.get $ptr) (call $alloc (local.get $len)) (i32.const 2147483647)))
    (i32.const 0))
  (func (export "init") (param $ptr i32) (param $len i32) (param $version i32) (result i32)
    (local $params i32) (local $is_count i32) (local $at i32) (local $end i32) (local $number i32)
    (local.set $params (i32.load8_u offset=1 (local.get $ptr)))
    (local.set $at (i32.add (local.get $ptr) (i32.const 2)))
    (block $done
      (loop $next
        (br_if $done (i32.eqz (local.get $params)))
        (local.set $params (i32.sub (local.get $params) (i32.const 1)))
        (local.set $is_count (i32.eq (i32.load8_u offset=2 (local.get $at)) (i32.const 99)))
        (local.set $at (i32.add (i32.add (local.get $at) (i32.const 2)) (i32.load8_u offset=1 (local.get $at))))
        (local.set $end (i32.add (i32.add (local.get $at) (i32.const 2)) (i32.load8_u offset=1 (local.get $at))))
        (local.set $at (i32.add (local.get $at) (i32.const 2)))
        (local.set $number (i32.const 0))
        (loop $digit
          (local.set $number (i32.add (i32.mul (local.get $number) (i32.const 10))
            (i32.sub (i32.load8_u (local.get $at)) (i32.const 48))))
          (local.set $at (i32.add (local.get $at) (i32.const 1)))
          (br_if $digit (i32.lt_u (local.get $at) (local.get $end))))
        (if (local.get $is_count) (then (global.set $window (local.get $number))))
        (br $next)))
    (i32.const 0)))"#
    )
}

/// A filter that drops everything.
pub(crate) fn nothing() -> String {
    format!(
        r#"(module {COMMON}
  (func (export "filter") (param $ptr i32) (param $len i32) (param $version i32) (result i32)
    (call $put32 (i32.const 0) (i32.const 0))
    (i32.store8 (i32.const 4) (i32.const 0))
    (call $copy_records (i32.const 0) (i32.const 5))
    (i32.const 0)))"#
    )
}

/// A map that passes two records of a batch and fails on the third, if there is one, with the hint `bad`.
pub(crate) fn fails_on_third() -> String {
    let select = select(ALL, "");
    format!(
        r#"(module {COMMON} {select}
  (data (i32.const 0) "\01\00\03bad")
  (func (export "map") (param $ptr i32) (param $len i32) (param $version i32) (result i32)
    (local $out i32) (local $end i32)
    (local.set $out (call $alloc (i32.add (local.get $len) (i32.const 64))))
    (local.set $end (call $select (local.get $ptr) (local.get $out) (i32.const 2)))
    (if (i32.le_s (call $get32 (i32.add (local.get $ptr) (i32.const 12))) (i32.const 2))
      (then
        (i32.store8 (local.get $end) (i32.const 0))
        (call $copy_records (local.get $out) (i32.add (i32.sub (local.get $end) (local.get $out)) (i32.const 1)))
        (return (i32.const 0))))
    ;; some error | hint | offset i64 | kind map | no key | empty value
    (memory.copy (local.get $end) (i32.const 0) (i32.const 6))
    (memory.copy (i32.add (local.get $end) (i32.const 6)) (local.get $ptr) (i32.const 8))
    (i32.store8 offset=13 (local.get $end) (i32.add (i32.load8_u offset=13 (local.get $end)) (i32.const 2)))
    (i32.store8 offset=14 (local.get $end) (i32.const 1))
    (i32.store8 offset=15 (local.get $end) (i32.const 0))
    (i32.store8 offset=16 (local.get $end) (i32.const 0))
    (call $copy_records (local.get $out) (i32.add (i32.sub (local.get $end) (local.get $out)) (i32.const 17)))
    (i32.const 0)))"#
    )
}

/// A map that never returns, or whose `init` does not.
pub(crate) fn endless(in_init: bool) -> String {
    let init = match in_init {
        true => {
            r#"(func (export "init") (param i32 i32 i32) (result i32)
    (loop $again (br $again))
    (i32.const 0))"#
        }
        false => "",
    };
    format!(
        r#"(module {COMMON} {init}
  (func (export "map") (param $ptr i32) (param $len i32) (param $version i32) (result i32)
    (loop $again (br $again))
    (i32.const 0)))"#
    )
}

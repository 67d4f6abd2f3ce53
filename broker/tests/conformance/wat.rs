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

/// Copies the records at indices divisible by `$every`, up to `$limit` records looked at.
const SELECT: &str = r#"
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
        (if (i32.eqz (i32.rem_u (local.get $index) (global.get $every)))
          (then
            (memory.copy (local.get $to) (local.get $at) (local.get $size))
            (local.set $to (i32.add (local.get $to) (local.get $size)))
            (local.set $kept (i32.add (local.get $kept) (i32.const 1)))))
        (local.set $at (i32.add (local.get $at) (local.get $size)))
        (local.set $index (i32.add (local.get $index) (i32.const 1)))
        (br $next)))
    (call $put32 (local.get $out) (local.get $kept))
    (local.get $to))
"#;

/// A map that returns every record as it is.
pub(crate) fn identity() -> String {
    format!(
        r#"(module {COMMON} {SELECT}
  (func (export "map") (param $ptr i32) (param $len i32) (param $version i32) (result i32)
    (local $out i32) (local $end i32)
    (local.set $out (call $alloc (i32.add (local.get $len) (i32.const 64))))
    (local.set $end (call $select (local.get $ptr) (local.get $out) (i32.const 2147483647)))
    (i32.store8 (local.get $end) (i32.const 0))
    (call $copy_records (local.get $out) (i32.add (i32.sub (local.get $end) (local.get $out)) (i32.const 1)))
    (i32.const 0)))"#
    )
}

/// A filter that keeps the records whose index in the batch is divisible by its only parameter, a digit.
pub(crate) fn every() -> String {
    format!(
        r#"(module {COMMON} {SELECT}
  (func (export "init") (param $ptr i32) (param $len i32) (param $version i32) (result i32)
    (local $key_len i32)
    ;; count u16 | key length u16 | key | value length u16 | value
    (if (i32.eqz (i32.load8_u offset=1 (local.get $ptr))) (then (return (i32.const -1))))
    (local.set $key_len (i32.load8_u offset=3 (local.get $ptr)))
    (global.set $every (i32.sub (i32.load8_u offset=6 (i32.add (local.get $ptr) (local.get $key_len))) (i32.const 48)))
    (i32.const 0))
  (func (export "filter") (param $ptr i32) (param $len i32) (param $version i32) (result i32)
    (local $out i32) (local $end i32)
    (local.set $out (call $alloc (i32.add (local.get $len) (i32.const 64))))
    (local.set $end (call $select (local.get $ptr) (local.get $out) (i32.const 2147483647)))
    (i32.store8 (local.get $end) (i32.const 0))
    (call $copy_records (local.get $out) (i32.add (i32.sub (local.get $end) (local.get $out)) (i32.const 1)))
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

/// A map that passes two records of a batch and fails on the third with the hint `bad`.
pub(crate) fn fails_on_third() -> String {
    format!(
        r#"(module {COMMON} {SELECT}
  (data (i32.const 0) "\01\00\03bad")
  (func (export "map") (param $ptr i32) (param $len i32) (param $version i32) (result i32)
    (local $out i32) (local $end i32)
    (local.set $out (call $alloc (i32.add (local.get $len) (i32.const 64))))
    (local.set $end (call $select (local.get $ptr) (local.get $out) (i32.const 2)))
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

use std::collections::BTreeMap;

use millrace_events::{Column, SchemaId, TableId, TableSchema};
use proptest::prelude::*;

use super::*;

type State = BTreeMap<Key, Vec<Value>>;

fn table() -> Table {
    let column = |name: &str, type_name: &str, key| Column {
        name: name.into(),
        type_name: type_name.into(),
        oid: 0,
        type_mod: -1,
        key,
    };
    let schema = TableSchema {
        id: SchemaId(1),
        table: TableId::new("source", "t"),
        columns: vec![
            column("id", "bigint", true),
            column("a", "text", false),
            column("b", "text", false),
        ],
    };
    Table::of(&schema, "t", &crate::replica::TablePolicies::default()).expect("replicable")
}

fn row(columns: &[(&str, Value)]) -> Row {
    Row(columns
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect())
}

fn change(op: Op, before: Option<Row>, after: Option<Row>) -> Change {
    Change {
        table: TableId::new("source", "t"),
        op,
        schema: SchemaId(1),
        before,
        after,
    }
}

/// What an application might do to the row of a key.
#[derive(Clone, Debug)]
enum Deed {
    Put(i64, u8, u8),
    /// Sets `a`, leaves `b` unsent; with a second key, moves the row there.
    Touch(i64, u8, Option<i64>),
    Remove(i64),
    Swap(i64, i64),
    Clear,
}

fn deed() -> impl Strategy<Value = Deed> {
    let key = 0i64..6;
    prop_oneof![
        4 => (key.clone(), any::<u8>(), any::<u8>()).prop_map(|(k, a, b)| Deed::Put(k, a, b)),
        6 => (key.clone(), any::<u8>(), prop::option::of(key.clone()))
            .prop_map(|(k, a, to)| Deed::Touch(k, a, to)),
        3 => key.clone().prop_map(Deed::Remove),
        2 => (key.clone(), key).prop_map(|(k, l)| Deed::Swap(k, l)),
        1 => Just(Deed::Clear),
    ]
}

fn text(value: u8) -> Value {
    Value::Text(value.to_string())
}

fn id(key: i64) -> Row {
    row(&[("id", Value::Int(key))])
}

/// Performs a deed on the model; what the log would say about it.
fn perform(deed: &Deed, state: &mut State) -> Vec<Change> {
    let of = |key: i64| vec![Value::Int(key)];
    match *deed {
        Deed::Put(key, a, b) => {
            let op = match state.contains_key(&of(key)) {
                true => Op::Update,
                false => Op::Insert,
            };
            state.insert(of(key), vec![Value::Int(key), text(a), text(b)]);
            let after = row(&[("id", Value::Int(key)), ("a", text(a)), ("b", text(b))]);
            vec![change(op, None, Some(after))]
        }
        Deed::Touch(key, a, to) => {
            let to = to.unwrap_or(key);
            if !state.contains_key(&of(key)) || (to != key && state.contains_key(&of(to))) {
                return Vec::new();
            }
            vec![moved(state, key, to, Some(a))]
        }
        Deed::Remove(key) => match state.remove(&of(key)) {
            Some(_) => vec![change(Op::Delete, Some(id(key)), None)],
            None => Vec::new(),
        },
        Deed::Swap(one, two) => {
            if one == two || !state.contains_key(&of(one)) || !state.contains_key(&of(two)) {
                return Vec::new();
            }
            vec![
                moved(state, one, -1, None),
                moved(state, two, one, None),
                moved(state, -1, two, None),
            ]
        }
        Deed::Clear => {
            state.clear();
            vec![change(Op::Truncate, None, None)]
        }
    }
}

fn moved(state: &mut State, from: i64, to: i64, a: Option<u8>) -> Change {
    let mut values = state.remove(&vec![Value::Int(from)]).expect("it exists");
    values[0] = Value::Int(to);
    let mut after = vec![("id", Value::Int(to))];
    if let Some(a) = a {
        values[1] = text(a);
        after.push(("a", text(a)));
    }
    state.insert(vec![Value::Int(to)], values);
    change(
        Op::Update,
        (from != to).then(|| id(from)),
        Some(row(&after)),
    )
}

/// What the server does with a batch.
fn apply(batch: &Batch, state: &mut State) {
    for table in batch.tables.values() {
        let old = state.clone();
        if table.truncate {
            state.clear();
        }
        for key in table.deletes() {
            state.remove(key);
        }
        for (key, net) in &table.rows {
            match net {
                Net::Delete => {}
                Net::Upsert(values) => drop(state.insert(key.clone(), values.clone())),
                Net::Partial { values, base } => {
                    assert!(!table.truncate, "nothing is left to complete from");
                    let base = old.get(base).expect("the base row exists in the replica");
                    let row = values.iter().zip(base);
                    let row = row.map(|(v, old)| v.clone().unwrap_or_else(|| old.clone()));
                    state.insert(key.clone(), row.collect());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]
    #[test]
    fn a_fold_has_the_effect_of_its_changes_however_they_are_cut(
        deeds in prop::collection::vec(deed(), 0..40),
        cuts in prop::collection::vec(1usize..12, 1..8),
    ) {
        let table = table();
        let mut model = State::new();
        let mut replica = State::new();
        let mut batch = Batch::default();
        let mut cuts = cuts.iter().cycle();
        let mut left = *cuts.next().expect("not empty");
        for deed in &deeds {
            for change in perform(deed, &mut model) {
                batch.fold(change, &table, &BTreeSet::new()).expect("a sound log");
            }
            left -= 1;
            if left == 0 {
                apply(&std::mem::take(&mut batch), &mut replica);
                prop_assert_eq!(&replica, &model);
                left = *cuts.next().expect("not empty");
            }
        }
        apply(&batch, &mut replica);
        prop_assert_eq!(replica, model);
    }
}

#[test]
fn primary_key_swap_inside_one_transaction() {
    let mut batch = Batch::default();
    let mut state = State::new();
    let log: Vec<Change> = [Deed::Put(1, 1, 1), Deed::Put(2, 2, 2), Deed::Swap(1, 2)]
        .iter()
        .flat_map(|deed| perform(deed, &mut state))
        .collect();
    for change in log {
        batch
            .fold(change, &table(), &BTreeSet::new())
            .expect("sound");
    }
    let mut replica = State::new();
    apply(&batch, &mut replica);
    assert_eq!(replica, state);
}

#[test]
fn changes_that_contradict_the_log_are_refused() {
    let (table, none) = (table(), BTreeSet::new());
    let mut batch = Batch::default();
    let gone = change(Op::Delete, Some(id(1)), None);
    batch.fold(gone, &table, &none).expect("sound");
    let partial = change(Op::Update, None, Some(row(&[("id", Value::Int(1))])));
    assert!(batch.fold(partial.clone(), &table, &none).is_err());
    let clear = change(Op::Truncate, None, None);
    batch.fold(clear, &table, &none).expect("sound");
    assert!(batch.fold(partial, &table, &none).is_err());
    let strange = change(Op::Insert, None, Some(row(&[("zzz", Value::Null)])));
    let error = batch
        .fold(strange, &table, &none)
        .expect_err("no such column");
    assert!(error.reason.contains("zzz"));
    let half = change(Op::Insert, None, Some(id(5)));
    assert!(batch.fold(half, &table, &none).is_err());
}

#[test]
fn what_is_contained_at_a_key_is_left_alone_there_and_a_truncate_spares_it() {
    let (table, mut batch) = (table(), Batch::default());
    let key = |id: i64| vec![Value::Int(id)];
    let spared: BTreeSet<Key> = [key(1)].into();
    let whole = |id: i64| row(&[("id", Value::Int(id)), ("a", text(1)), ("b", text(1))]);
    for change in [
        change(Op::Truncate, None, None),
        change(Op::Insert, None, Some(whole(1))),
        change(Op::Insert, None, Some(whole(2))),
        // To the spared key and from it, each part is judged alone.
        change(
            Op::Update,
            Some(id(2)),
            Some(row(&[("id", Value::Int(1)), ("a", text(2))])),
        ),
        change(Op::Update, Some(id(1)), Some(whole(3))),
    ] {
        batch.fold(change, &table, &spared).expect("sound");
    }
    let folded = &batch.tables[&TableId::new("source", "t")];
    assert!(folded.truncate);
    assert_eq!(folded.spared, spared);
    let nets: Vec<(&Key, bool)> = folded
        .rows
        .iter()
        .map(|(key, net)| (key, *net == Net::Delete))
        .collect();
    assert_eq!(nets, [(&key(2), true), (&key(3), false)]);
    // A later TRUNCATE that is not contained spares nothing.
    let clear = change(Op::Truncate, None, None);
    batch.fold(clear, &table, &BTreeSet::new()).expect("sound");
    let folded = &batch.tables[&TableId::new("source", "t")];
    assert!(folded.spared.is_empty() && folded.rows.is_empty());
}

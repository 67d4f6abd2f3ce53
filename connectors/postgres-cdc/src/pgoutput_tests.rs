use proptest::prelude::*;

use super::*;

fn put_string(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
    out.push(0);
}

fn put_tuple(out: &mut Vec<u8>, tuple: &Tuple) {
    out.extend_from_slice(&(tuple.len() as u16).to_be_bytes());
    for cell in tuple {
        let (kind, bytes) = match cell {
            Cell::Sliced(_) => unreachable!("no message has it"),
            Cell::Null => (b'n', None),
            Cell::Unchanged => (b'u', None),
            Cell::Text(bytes) => (b't', Some(bytes)),
            Cell::Binary(bytes) => (b'b', Some(bytes)),
        };
        out.push(kind);
        if let Some(bytes) = bytes {
            out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(bytes);
        }
    }
}

fn put_old(out: &mut Vec<u8>, old: &OldTuple) {
    let (kind, tuple) = match old {
        OldTuple::Key(tuple) => (b'K', tuple),
        OldTuple::Full(tuple) => (b'O', tuple),
    };
    out.push(kind);
    put_tuple(out, tuple);
}

fn put_relation(out: &mut Vec<u8>, relation: &Relation) {
    out.extend_from_slice(&relation.oid.to_be_bytes());
    put_string(out, &relation.namespace);
    put_string(out, &relation.name);
    out.push(relation.identity as u8);
    out.extend_from_slice(&(relation.columns.len() as u16).to_be_bytes());
    for column in &relation.columns {
        out.push(u8::from(column.identity));
        put_string(out, &column.name);
        out.extend_from_slice(&column.type_oid.to_be_bytes());
        out.extend_from_slice(&column.type_mod.to_be_bytes());
    }
}

/// The protocol as the manual describes it, the other way round.
fn encode(message: &Message) -> Bytes {
    let mut out = Vec::new();
    let micros = |at: DateTime<Utc>| (at.timestamp_micros() - POSTGRES_EPOCH_MICROS).to_be_bytes();
    match message {
        Message::Slice(_) => unreachable!("no message is one"),
        Message::Begin(begin) => {
            out.push(b'B');
            out.extend_from_slice(&begin.commit_lsn.0.to_be_bytes());
            out.extend_from_slice(&micros(begin.at));
            out.extend_from_slice(&begin.xid.0.to_be_bytes());
        }
        Message::Commit(commit) => {
            out.extend_from_slice(b"C\0");
            out.extend_from_slice(&commit.commit_lsn.0.to_be_bytes());
            out.extend_from_slice(&commit.end_lsn.0.to_be_bytes());
            out.extend_from_slice(&[0; 8]);
        }
        Message::Origin { name } => {
            out.push(b'O');
            out.extend_from_slice(&[0; 8]);
            put_string(&mut out, name);
        }
        Message::Relation(relation) => {
            out.push(b'R');
            put_relation(&mut out, relation);
        }
        Message::Type {
            oid,
            namespace,
            name,
        } => {
            out.push(b'Y');
            out.extend_from_slice(&oid.to_be_bytes());
            put_string(&mut out, namespace);
            put_string(&mut out, name);
        }
        Message::Insert { relation, new } => {
            out.push(b'I');
            out.extend_from_slice(&relation.to_be_bytes());
            out.push(b'N');
            put_tuple(&mut out, new);
        }
        Message::Update { relation, old, new } => {
            out.push(b'U');
            out.extend_from_slice(&relation.to_be_bytes());
            if let Some(old) = old {
                put_old(&mut out, old);
            }
            out.push(b'N');
            put_tuple(&mut out, new);
        }
        Message::Delete { relation, old } => {
            out.push(b'D');
            out.extend_from_slice(&relation.to_be_bytes());
            put_old(&mut out, old);
        }
        Message::Truncate { relations } => {
            out.push(b'T');
            out.extend_from_slice(&(relations.len() as u32).to_be_bytes());
            out.push(0);
            for relation in relations {
                out.extend_from_slice(&relation.to_be_bytes());
            }
        }
        Message::Logical {
            transactional,
            lsn,
            prefix,
            content,
        } => {
            out.push(b'M');
            out.push(u8::from(*transactional));
            out.extend_from_slice(&lsn.0.to_be_bytes());
            put_string(&mut out, prefix);
            out.extend_from_slice(&(content.len() as u32).to_be_bytes());
            out.extend_from_slice(content);
        }
    }
    out.into()
}

fn name() -> impl Strategy<Value = String> {
    "[a-zäß_ ]{1,12}"
}

fn bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from)
}

fn tuple() -> impl Strategy<Value = Tuple> {
    let cell = prop_oneof![
        Just(Cell::Null),
        Just(Cell::Unchanged),
        bytes().prop_map(Cell::Text),
        bytes().prop_map(Cell::Binary),
    ];
    prop::collection::vec(cell, 0..8)
}

fn old() -> impl Strategy<Value = OldTuple> {
    prop_oneof![
        tuple().prop_map(OldTuple::Key),
        tuple().prop_map(OldTuple::Full)
    ]
}

fn relation() -> impl Strategy<Value = Relation> {
    let column = (any::<bool>(), name(), any::<u32>(), any::<i32>());
    let columns = prop::collection::vec(column, 0..6);
    let identity = prop::sample::select(vec!['d', 'n', 'f', 'i']);
    (any::<u32>(), name(), name(), identity, columns).prop_map(
        |(oid, namespace, name, identity, columns)| Relation {
            oid,
            namespace,
            name,
            identity,
            columns: columns
                .into_iter()
                .map(|(identity, name, type_oid, type_mod)| RelationColumn {
                    identity,
                    name,
                    type_oid,
                    type_mod,
                })
                .collect(),
        },
    )
}

fn message() -> impl Strategy<Value = Message> {
    let begin = (any::<u64>(), 0i64..4_000_000_000_000_000, any::<u32>());
    prop_oneof![
        begin.prop_map(|(lsn, micros, xid)| Message::Begin(Begin {
            commit_lsn: Lsn(lsn),
            at: DateTime::from_timestamp_micros(micros).expect("in range"),
            xid: Xid(xid),
        })),
        (any::<u64>(), any::<u64>()).prop_map(|(commit, end)| Message::Commit(Commit {
            commit_lsn: Lsn(commit),
            end_lsn: Lsn(end),
        })),
        name().prop_map(|name| Message::Origin { name }),
        relation().prop_map(Message::Relation),
        (any::<u32>(), name(), name()).prop_map(|(oid, namespace, name)| Message::Type {
            oid,
            namespace,
            name
        }),
        (any::<u32>(), tuple()).prop_map(|(relation, new)| Message::Insert { relation, new }),
        (any::<u32>(), prop::option::of(old()), tuple())
            .prop_map(|(relation, old, new)| Message::Update { relation, old, new }),
        (any::<u32>(), old()).prop_map(|(relation, old)| Message::Delete { relation, old }),
        prop::collection::vec(any::<u32>(), 0..5)
            .prop_map(|relations| Message::Truncate { relations }),
        (any::<bool>(), any::<u64>(), name(), bytes()).prop_map(
            |(transactional, lsn, prefix, content)| Message::Logical {
                transactional,
                lsn: Lsn(lsn),
                prefix,
                content
            }
        ),
    ]
}

proptest! {
    #[test]
    fn every_message_comes_back(message in message()) {
        prop_assert_eq!(decode(encode(&message)), Ok(message));
    }

    #[test]
    fn a_message_cut_short_or_too_long_is_an_error(message in message(), cut in any::<prop::sample::Index>()) {
        let bytes = encode(&message);
        prop_assert!(decode(bytes.slice(..cut.index(bytes.len()))).is_err());
        let mut longer = bytes.to_vec();
        longer.push(0);
        prop_assert!(decode(longer.into()).is_err());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in prop::sample::select(b"BCORYIUDTM".to_vec())) {
        let _ = decode(bytes.clone().into());
        let _ = decode([&[kind][..], &bytes].concat().into());
    }
}

/// Bytes of a PostgreSQL 15 server for `UPDATE t SET k = 2 WHERE k = 1` on `t (k int PRIMARY KEY, v text)`
/// with a `v` in TOAST storage.
#[test]
fn a_key_change_with_an_unchanged_toast_value() {
    let bytes = b"U\x00\x00\x40\x08K\x00\x02t\x00\x00\x00\x011nN\x00\x02t\x00\x00\x00\x012u";
    let expected = Message::Update {
        relation: 0x4008,
        old: Some(OldTuple::Key(vec![
            Cell::Text(Bytes::from_static(b"1")),
            Cell::Null,
        ])),
        new: vec![Cell::Text(Bytes::from_static(b"2")), Cell::Unchanged],
    };
    assert_eq!(decode(Bytes::from_static(bytes)), Ok(expected));
}

#[test]
fn the_empty_namespace_is_pg_catalog() {
    let bytes = b"R\x00\x00\x40\x08\x00t\x00d\x00\x00";
    let Ok(Message::Relation(relation)) = decode(Bytes::from_static(bytes)) else {
        panic!("a relation");
    };
    assert_eq!(relation.namespace, "pg_catalog");
}

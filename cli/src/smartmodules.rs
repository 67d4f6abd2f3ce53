//! The SmartModules compiled into this binary.

use anyhow::Context;
use millrace_topic::{Lookup, Package, StoredModule};

/// All of them.
pub static MODULES: &[Package] = include!(concat!(env!("OUT_DIR"), "/smartmodules.rs"));

/// `millrace/<name>@<version>` of the SmartModule `name`.
///
/// # Errors
/// If this binary holds no such module.
pub fn full_name(name: &str) -> anyhow::Result<String> {
    let module = MODULES.iter().find(|module| module.name == name);
    let module = module.with_context(|| format!("there is no SmartModule {name}"))?;
    Ok(module.full_name()?)
}

/// Registers those that a broker of this process does not have yet. Not through a client, which might have to show a
/// certificate.
///
/// # Errors
/// If one cannot be stored, or there is a module of somebody else in its place.
pub async fn register_in(broker: &millrace_broker::Handle) -> anyhow::Result<()> {
    let known = broker.smart_modules().into_iter();
    let known = known.map(|known| StoredModule::from((known.name, known.spec)));
    for missing in StoredModule::missing(MODULES, known, Lookup::Exact)? {
        let (name, spec) = missing.into();
        broker.put_smart_module(&name, spec).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_ours_has_the_full_name_that_its_manifest_says() {
        let names: Vec<_> = MODULES
            .iter()
            .map(|module| full_name(module.name).unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "millrace/columns@0.1.0",
                "millrace/user-event@0.1.0",
                "millrace/rows@0.1.0",
                "millrace/redact@0.1.0"
            ]
        );
    }
}

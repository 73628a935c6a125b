//! The values of the Lightning node.

use payjoin_core::StateWrite;

use super::Data;

impl Data {
    pub(in crate::memory) fn value(&self, primary: &str, secondary: &str, key: &str) -> Option<&StateWrite> {
        self.node
            .iter()
            .find(|write| (&*write.primary, &*write.secondary, &*write.key) == (primary, secondary, key))
    }

    pub(in crate::memory) fn put(&mut self, write: StateWrite) {
        let known = self.node.iter_mut().find(|known| {
            (&known.primary, &known.secondary, &known.key) == (&write.primary, &write.secondary, &write.key)
        });
        match known {
            None => self.node.push(write),
            Some(known) if write.generation == 0 || write.generation > known.generation => {
                known.value = write.value;
                known.generation = known.generation.max(write.generation);
            }
            Some(_) => {}
        }
    }
}

//! Where the current value of a VPC lies.

use std::sync::{Arc, PoisonError, RwLock};

use crate::zones::Zones;

/// The zones of one VPC as they are now; clones are the same place. The agent puts a new value there
/// whenever the VPC's names change, and each query is answered from one value from start to end.
#[derive(Clone, Debug)]
pub struct ZoneHandle {
    // Held only while an Arc is cloned or exchanged.
    current: Arc<RwLock<Arc<Zones>>>,
}

impl ZoneHandle {
    /// A place with these zones.
    pub fn new(zones: Zones) -> Self {
        Self { current: Arc::new(RwLock::new(Arc::new(zones))) }
    }

    /// The zones as they are now.
    pub fn load(&self) -> Arc<Zones> {
        // A value is exchanged in one step: a panic elsewhere can't have left half of one.
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other zones in their place, and gives back those that were there.
    pub fn swap(&self, zones: Zones) -> Arc<Zones> {
        let next = Arc::new(zones);
        std::mem::replace(&mut *self.current.write().unwrap_or_else(PoisonError::into_inner), next)
    }
}

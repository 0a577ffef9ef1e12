//! Methods that plugins asked the host for.

use super::call::{Context, Hosted};
use guard_sdk::{
    Error, Result, State,
    abi::calls::{AttackInstance, RegularizerInstance},
};
use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

/// Methods that plugins asked for, by handle.
#[derive(Default)]
pub(super) struct Kept {
    attacks: Shelf<AttackInstance>,
    regularizers: Shelf<RegularizerInstance>,
    next: Cell<u64>,
}

type Shelf<T> = RefCell<BTreeMap<u64, Rc<RefCell<Hosted<T>>>>>;

impl Kept {
    fn key(&self) -> u64 {
        self.next.replace(self.next.get() + 1)
    }

    /// The attack behind a handle.
    pub(super) fn attack(&self, key: u64) -> Result<Rc<RefCell<Hosted<AttackInstance>>>> {
        self.attacks.borrow().get(&key).cloned().ok_or_else(|| no_handle(key))
    }

    /// The regularizer behind a handle.
    pub(super) fn regularizer(&self, key: u64) -> Result<Rc<RefCell<Hosted<RegularizerInstance>>>> {
        self.regularizers.borrow().get(&key).cloned().ok_or_else(|| no_handle(key))
    }
}

fn no_handle(key: u64) -> Error {
    Error::with_code("interface", format!("there is no method with handle {key}"))
}

/// The handles that one method was given; they end with it.
pub(super) struct Handles {
    kept: Rc<Kept>,
    keys: RefCell<Vec<u64>>,
}

impl Handles {
    pub(super) fn new(kept: &Rc<Kept>) -> Self {
        Self { kept: kept.clone(), keys: RefCell::default() }
    }

    /// See [`Hosted::save_all`].
    pub(super) fn save(&self, context: &Context) -> Result<Vec<State>> {
        let mut states = Vec::new();
        for &key in self.keys.borrow().iter() {
            states.extend(match self.kept.attack(key) {
                Ok(attack) => attack.borrow_mut().save_all(context)?,
                Err(_) => self.kept.regularizer(key)?.borrow_mut().save_all(context)?,
            });
        }
        Ok(states)
    }

    /// See [`Hosted::load_all`].
    pub(super) fn load(&self, context: &Context, states: &mut dyn Iterator<Item = State>) -> Result<()> {
        for &key in self.keys.borrow().iter() {
            match self.kept.attack(key) {
                Ok(attack) => attack.borrow_mut().load_all(context, states)?,
                Err(_) => self.kept.regularizer(key)?.borrow_mut().load_all(context, states)?,
            }
        }
        Ok(())
    }

    /// Keeps an attack; the key is its handle.
    pub(super) fn keep_attack(&self, attack: Hosted<AttackInstance>) -> u64 {
        let key = self.kept.key();
        self.kept.attacks.borrow_mut().insert(key, Rc::new(RefCell::new(attack)));
        self.keys.borrow_mut().push(key);
        key
    }

    /// Keeps a regularizer; the key is its handle.
    pub(super) fn keep_regularizer(&self, regularizer: Hosted<RegularizerInstance>) -> u64 {
        let key = self.kept.key();
        self.kept.regularizers.borrow_mut().insert(key, Rc::new(RefCell::new(regularizer)));
        self.keys.borrow_mut().push(key);
        key
    }
}

impl Drop for Handles {
    fn drop(&mut self) {
        for key in self.keys.take() {
            // Taken out first: what is freed may itself hold handles.
            let freed = (
                self.kept.attacks.borrow_mut().remove(&key),
                self.kept.regularizers.borrow_mut().remove(&key),
            );
            drop(freed);
        }
    }
}

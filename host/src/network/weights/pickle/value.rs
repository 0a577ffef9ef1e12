//! What a pickle holds: values that refer to each other by number, since they may be shared and may contain themselves.

/// A value's number.
pub(super) type Id = u32;

/// One value.
pub(super) enum Node {
    None,
    Boolean(bool),
    Integer(i128),
    Float(f64),
    Text(Box<str>),
    /// Lists and sets.
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dictionary(Vec<(Id, Id)>),
    /// A class or function.
    Global {
        module: Id,
        name: Id,
    },
    /// What the file keeps outside of the pickle; its name.
    Persistent(Id),
    Call(Box<CallNode>),
    /// What nothing here depends on, in words.
    Opaque(&'static str),
}

/// An object: the class or function that would have made it, and what would have been done to it.
pub(super) struct CallNode {
    pub callable: Id,
    pub arguments: Id,
    pub state: Option<Id>,
    pub entries: Vec<(Id, Id)>,
}

/// Everything in one pickle.
pub struct Pickle {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Id,
}

impl Pickle {
    /// The value that the pickle is about.
    pub fn root(&self) -> Value<'_> {
        Value { pickle: self, id: self.root }
    }

    /// The names of everything that is kept outside of the pickle, in order of appearance.
    pub fn persistent(&self) -> impl Iterator<Item = Value<'_>> {
        self.nodes.iter().filter_map(|node| match node {
            Node::Persistent(id) => Some(Value { pickle: self, id: *id }),
            _ => None,
        })
    }
}

/// A value of a pickle.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    pickle: &'a Pickle,
    id: Id,
}

/// An object as the call that would have made it.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Module and name of the class or function.
    pub function: (&'a str, &'a str),
    /// The arguments.
    pub arguments: Value<'a>,
    /// What would have been set on the object, mostly the dictionary of its attributes.
    pub state: Option<Value<'a>>,
}

impl<'a> Value<'a> {
    fn node(self) -> &'a Node {
        &self.pickle.nodes[self.id as usize]
    }

    fn at(self, id: Id) -> Self {
        Self { id, ..self }
    }

    /// True for `None`.
    pub fn is_none(self) -> bool {
        matches!(self.node(), Node::None)
    }

    /// A truth value.
    pub fn boolean(self) -> Option<bool> {
        match self.node() {
            Node::Boolean(value) => Some(*value),
            _ => None,
        }
    }

    /// An integer.
    pub fn integer(self) -> Option<i128> {
        match self.node() {
            Node::Integer(value) => Some(*value),
            _ => None,
        }
    }

    /// A floating-point number.
    pub fn float(self) -> Option<f64> {
        match self.node() {
            Node::Float(value) => Some(*value),
            _ => None,
        }
    }

    /// A text.
    pub fn text(self) -> Option<&'a str> {
        match self.node() {
            Node::Text(value) => Some(value),
            _ => None,
        }
    }

    /// The elements of a list, a set or a tuple; `torch.Size` is a tuple.
    pub fn items(self) -> Option<impl ExactSizeIterator<Item = Value<'a>>> {
        let sequence = match self.call() {
            Some(call) if call.function == ("torch", "Size") => call.argument(0)?,
            Some(_) => return None,
            None => self,
        };
        match sequence.node() {
            Node::List(ids) | Node::Tuple(ids) => Some(ids.iter().map(move |&id| self.at(id))),
            _ => None,
        }
    }

    /// The element at a position.
    pub fn item(self, position: usize) -> Option<Value<'a>> {
        self.items()?.nth(position)
    }

    /// Keys and values of a dictionary, an `OrderedDict` or a `defaultdict`, in the file's order.
    pub fn entries(self) -> Option<Vec<(Value<'a>, Value<'a>)>> {
        let pairs = |ids: &'a [(Id, Id)]| ids.iter().map(move |&(key, value)| (self.at(key), self.at(value)));
        match self.node() {
            Node::Dictionary(entries) => Some(pairs(entries).collect()),
            Node::Call(node) => {
                let call = self.call()?;
                let mut all = match call.function {
                    ("collections", "defaultdict") => Vec::new(),
                    // Python 2 gave the entries as an argument.
                    ("collections", "OrderedDict") => match call.argument(0) {
                        Some(given) => given.items()?.map(Value::pair).collect::<Option<_>>()?,
                        None => Vec::new(),
                    },
                    _ => return None,
                };
                all.extend(pairs(&node.entries));
                Some(all)
            }
            _ => None,
        }
    }

    fn pair(self) -> Option<(Value<'a>, Value<'a>)> {
        let mut items = self.items().filter(|items| items.len() == 2)?;
        Some((items.next()?, items.next()?))
    }

    /// The value under a text key of a dictionary; the last one, as in Python.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.entries()?.into_iter().rev().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
    }

    /// An object.
    pub fn call(self) -> Option<Call<'a>> {
        match self.node() {
            Node::Call(call) => Some(Call {
                function: self.at(call.callable).global()?,
                arguments: self.at(call.arguments),
                state: call.state.map(|id| self.at(id)),
            }),
            _ => None,
        }
    }

    /// Module and name of a class or function.
    pub fn global(self) -> Option<(&'a str, &'a str)> {
        // PyTorch's legacy format names modules so, with their source.
        let class = match self.persistent() {
            Some(name) if name.item(0).and_then(Value::text) == Some("module") => name.item(1)?,
            _ => self,
        };
        match class.node() {
            Node::Global { module, name } => Some((self.at(*module).text()?, self.at(*name).text()?)),
            _ => None,
        }
    }

    /// The name of what the file keeps outside of the pickle.
    pub fn persistent(self) -> Option<Value<'a>> {
        match self.node() {
            Node::Persistent(id) => Some(self.at(*id)),
            _ => None,
        }
    }

    /// What it is, in words.
    pub fn describe(self) -> String {
        match self.node() {
            Node::None => "`None`".to_string(),
            Node::Boolean(_) => "a truth value".to_string(),
            Node::Integer(_) => "an integer".to_string(),
            Node::Float(_) => "a number".to_string(),
            Node::Text(_) => "a text".to_string(),
            Node::List(_) => "a list".to_string(),
            Node::Tuple(_) => "a tuple".to_string(),
            Node::Dictionary(_) => "a dictionary".to_string(),
            Node::Persistent(_) => "a storage".to_string(),
            Node::Opaque(what) => (*what).to_string(),
            Node::Global { .. } => match self.global() {
                Some((module, name)) => format!("`{}`", dotted(module, name)),
                None => "a class or function without a name".to_string(),
            },
            Node::Call(_) => match self.call() {
                Some(Call { function: (module, name), .. }) => {
                    format!("an object of `{}`", dotted(module, name))
                }
                None => "an object of no named class".to_string(),
            },
        }
    }
}

impl<'a> Call<'a> {
    /// The argument at a position.
    pub fn argument(self, position: usize) -> Option<Value<'a>> {
        match self.arguments.node() {
            Node::Tuple(ids) => ids.get(position).map(|&id| self.arguments.at(id)),
            _ => None,
        }
    }
}

/// `module.name`, short enough for a message: both come from the file.
fn dotted(module: &str, name: &str) -> String {
    let short = |text: &str| text.chars().take(80).collect::<String>();
    format!("{}.{}", short(module), short(name))
}

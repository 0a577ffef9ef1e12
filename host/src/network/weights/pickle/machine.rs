//! The pickle machine (Python's `pickletools` documents its instructions): protocols 2 to 5 into [`Node`]s.
//!
//! Every instruction makes at most one value from at least one byte, lengths are read before they are believed, and
//! nothing recurses: time and memory are linear in the size of the pickle, whatever it says.

use super::value::{CallNode, Id, Node, Pickle};
use crate::network::weights::failure;
use guard_sdk::{Error, Result};
use std::{collections::HashMap, io::Read};

/// The longest name of a class or module, in bytes.
const LONGEST_NAME: usize = 1024;

/// More values than any checkpoint has: some gigabyte of memory.
const MOST_VALUES: usize = 1 << 24;

/// Values that need no node of their own each time.
const NONE: Id = 0;
const FALSE: Id = 1;
const TRUE: Id = 2;
const EMPTY_TUPLE: Id = 3;

/// Reads one pickle and leaves `source` behind it.
///
/// # Errors
/// If it is damaged, or uses what only protocols 0 and 1 have.
pub(in crate::network::weights) fn unpickle(source: &mut impl Read) -> Result<Pickle> {
    let nodes = vec![Node::None, Node::Boolean(false), Node::Boolean(true), Node::Tuple(Vec::new())];
    let mut machine =
        Machine { source, position: 0, nodes, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    loop {
        let at = machine.position;
        match machine.step().map_err(|error| error.context(format!("the pickle at byte {at}")))? {
            Some(root) => return Ok(Pickle { nodes: machine.nodes, root }),
            None => continue,
        }
    }
}

struct Machine<'a, R> {
    source: &'a mut R,
    position: u64,
    nodes: Vec<Node>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<R: Read> Machine<'_, R> {
    /// One instruction; the root at the last.
    fn step(&mut self) -> Result<Option<Id>> {
        match self.byte()? {
            0x80 => match self.byte()? {
                2..=5 => {}
                protocol => return Err(failure(format!("protocol {protocol} is unknown"))),
            },
            // FRAME: a hint for readers that buffer.
            0x95 => drop(self.array::<8>()?),
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => match self.marks.last() == Some(&self.stack.len()) {
                true => drop(self.marks.pop()),
                false => drop(self.pop()?),
            },
            b'1' => drop(self.pop_to_mark()?),
            b'2' => self.stack.push(self.top()?),
            b'N' => self.stack.push(NONE),
            0x88 => self.stack.push(TRUE),
            0x89 => self.stack.push(FALSE),
            b'K' => self.one_byte_integer()?,
            b'M' => {
                let value = u16::from_le_bytes(self.array()?);
                self.push(Node::Integer(value.into()))?;
            }
            b'J' => {
                let value = i32::from_le_bytes(self.array()?);
                self.push(Node::Integer(value.into()))?;
            }
            0x8a => {
                let length = self.length::<1>()?;
                self.long(length)?;
            }
            0x8b => {
                let length = self.length::<4>()?;
                self.long(length)?;
            }
            b'G' => {
                let value = f64::from_be_bytes(self.array()?);
                self.push(Node::Float(value))?;
            }
            // Unicode, and Python 2's `str`.
            0x8c | b'U' => self.text::<1>()?,
            b'X' | b'T' => self.text::<4>()?,
            0x8d => self.text::<8>()?,
            b'C' => self.bytes::<1>()?,
            b'B' => self.bytes::<4>()?,
            0x8e | 0x96 => self.bytes::<8>()?,
            b']' | 0x8f => self.push(Node::List(Vec::new()))?,
            b'}' => self.push(Node::Dictionary(Vec::new()))?,
            b')' => self.stack.push(EMPTY_TUPLE),
            b'l' | 0x91 => {
                let items = self.pop_to_mark()?;
                self.push(Node::List(items))?;
            }
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Node::Tuple(items))?;
            }
            count @ 0x85..=0x87 => self.tuple(usize::from(count - 0x84))?,
            b'd' => {
                let entries = pairs(self.pop_to_mark()?)?;
                self.push(Node::Dictionary(entries))?;
            }
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' | 0x90 => {
                let items = self.pop_to_mark()?;
                self.extend(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![(key, value)])?;
            }
            b'u' => {
                let entries = pairs(self.pop_to_mark()?)?;
                self.set(entries)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                let (module, name) = (self.add(Node::Text(module))?, self.add(Node::Text(name))?);
                self.push(Node::Global { module, name })?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                self.push(Node::Global { module, name })?;
            }
            // REDUCE and NEWOBJ differ in how Python would make the object, not in what they say.
            b'R' | 0x81 => {
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(callable, arguments)?;
            }
            0x92 => {
                let _keywords = self.pop()?;
                let (arguments, callable) = (self.pop()?, self.pop()?);
                self.call(callable, arguments)?;
            }
            b'o' => {
                let mut items = self.pop_to_mark()?;
                if items.is_empty() {
                    return Err(failure("an object has no class"));
                }
                let callable = items.remove(0);
                let arguments = self.add(Node::Tuple(items))?;
                self.call(callable, arguments)?;
            }
            b'b' => {
                let (state, object) = (self.pop()?, self.top()?);
                match &mut self.nodes[object as usize] {
                    Node::Call(call) => call.state = Some(state),
                    _ => return Err(failure("attributes are set on what is no object")),
                }
            }
            b'Q' => {
                let name = self.pop()?;
                self.push(Node::Persistent(name))?;
            }
            b'q' => {
                let [key] = self.array()?;
                self.put(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.put(key)?;
            }
            0x94 => self.put(self.memo.len() as u32)?,
            b'h' => {
                let [key] = self.array()?;
                self.get(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.get(key)?;
            }
            other => {
                let help = "save it again with a recent PyTorch, which writes protocol 2";
                return Err(failure(format!("instruction 0x{other:02x} is unknown here")).help(help));
            }
        }
        Ok(None)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.source.read_exact(&mut bytes).map_err(ends)?;
        self.position += N as u64;
        Ok(bytes)
    }

    /// A length in N bytes.
    fn length<const N: usize>(&mut self) -> Result<u64> {
        let mut bytes = [0; 8];
        bytes[..N].copy_from_slice(&self.array::<N>()?);
        Ok(u64::from_le_bytes(bytes))
    }

    /// `length` bytes, if the file has them: memory grows with what is there, not with what is said.
    fn take(&mut self, length: u64) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.source.by_ref().take(length).read_to_end(&mut bytes).map_err(ends)?;
        self.position += bytes.len() as u64;
        match bytes.len() as u64 == length {
            true => Ok(bytes),
            false => Err(failure(format!("{length} bytes should follow, found {}", bytes.len()))),
        }
    }

    fn one_byte_integer(&mut self) -> Result<()> {
        let value = self.byte()?;
        self.push(Node::Integer(value.into()))
    }

    /// A little-endian integer in two's complement.
    fn long(&mut self, length: u64) -> Result<()> {
        let bytes = self.take(length)?;
        if bytes.len() > 16 {
            return self.push(Node::Opaque("an integer of more than 128 bits"));
        }
        let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let mut value = [if negative { 0xff } else { 0 }; 16];
        value[..bytes.len()].copy_from_slice(&bytes);
        self.push(Node::Integer(i128::from_le_bytes(value)))
    }

    fn text<const N: usize>(&mut self) -> Result<()> {
        let length = self.length::<N>()?;
        let bytes = self.take(length)?;
        // Python's `surrogatepass` and Python 2's `str` need not be UTF-8.
        let text = String::from_utf8(bytes)
            .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
        self.push(Node::Text(text.into()))
    }

    fn bytes<const N: usize>(&mut self) -> Result<()> {
        let length = self.length::<N>()?;
        self.take(length)?;
        self.push(Node::Opaque("a byte string"))
    }

    fn line(&mut self) -> Result<Box<str>> {
        let mut line = Vec::new();
        loop {
            match self.byte()? {
                b'\n' => return Ok(String::from_utf8_lossy(&line).into()),
                _ if line.len() == LONGEST_NAME => {
                    return Err(failure(format!("a name is longer than {LONGEST_NAME} bytes")));
                }
                byte => line.push(byte),
            }
        }
    }

    fn add(&mut self, node: Node) -> Result<Id> {
        let id = self.nodes.len();
        if id >= MOST_VALUES {
            return Err(failure(format!("there are more than {MOST_VALUES} values")));
        }
        self.nodes.push(node);
        Ok(id as Id)
    }

    fn push(&mut self, node: Node) -> Result<()> {
        let id = self.add(node)?;
        self.stack.push(id);
        Ok(())
    }

    fn call(&mut self, callable: Id, arguments: Id) -> Result<()> {
        let call = CallNode { callable, arguments, state: None, entries: Vec::new() };
        self.push(Node::Call(Box::new(call)))
    }

    /// Where the stack of the innermost mark starts.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Id> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err(failure("a value is missing")),
        }
    }

    fn pop(&mut self) -> Result<Id> {
        let id = self.top()?;
        self.stack.pop();
        Ok(id)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| failure("a mark is missing"))?;
        Ok(self.stack.drain(mark..).collect())
    }

    fn tuple(&mut self, count: usize) -> Result<()> {
        let start = self.stack.len().checked_sub(count).filter(|&start| start >= self.floor());
        let start = start.ok_or_else(|| failure("a value is missing"))?;
        let items = self.stack.drain(start..).collect();
        self.push(Node::Tuple(items))
    }

    fn extend(&mut self, new: Vec<Id>) -> Result<()> {
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::List(items) => items.extend(new),
            // A class of its own, or `deque`: nothing here asks for its elements.
            Node::Call(_) => {}
            _ => return Err(failure("elements are added to what is no list")),
        }
        Ok(())
    }

    fn set(&mut self, new: Vec<(Id, Id)>) -> Result<()> {
        let target = self.top()?;
        match &mut self.nodes[target as usize] {
            Node::Dictionary(entries) => entries.extend(new),
            Node::Call(call) => call.entries.extend(new),
            _ => return Err(failure("entries are added to what is no dictionary")),
        }
        Ok(())
    }

    fn put(&mut self, key: u32) -> Result<()> {
        let id = self.top()?;
        self.memo.insert(key, id);
        Ok(())
    }

    fn get(&mut self, key: u32) -> Result<()> {
        let id = self.memo.get(&key).ok_or_else(|| failure(format!("value {key} was never kept")))?;
        self.stack.push(*id);
        Ok(())
    }
}

fn pairs(ids: Vec<Id>) -> Result<Vec<(Id, Id)>> {
    let (pairs, rest) = ids.as_chunks::<2>();
    match rest.is_empty() {
        true => Ok(pairs.iter().map(|&[key, value]| (key, value)).collect()),
        false => Err(failure("a key has no value")),
    }
}

fn ends(error: std::io::Error) -> Error {
    match error.kind() {
        std::io::ErrorKind::UnexpectedEof => failure("the file ends in the middle"),
        _ => failure(format!("cannot be read: {error}")),
    }
}

//! One walk through an app's JSON, which notes what counts and passes over the rest: no memory is taken
//! for what is not kept. Never judges what it finds.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Deserializer;

/// What was found in an app.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// It is missing where it is not text.
    pub(super) id: Option<String>,
    /// Empty where it is not text.
    pub(super) version: String,
    /// It is missing where it is no whole number.
    pub(super) instances: Option<u64>,
    /// When its configuration was last changed; empty where that is not text.
    pub(super) configured: String,
    /// Those that may count and are text.
    pub(super) labels: BTreeMap<String, String>,
    /// What should be the labels is something else.
    pub(super) has_odd_labels: bool,
    /// By the last of `networks`.
    network: Option<Mode>,
    definitions: List,
    numbers: List,
    container: Container,
    has_address: bool,
    discovered: List,
}

#[derive(Debug, Default)]
struct Container {
    mappings: List,
    docker: Docker,
}

#[derive(Debug, Default)]
struct Docker {
    network: Option<Mode>,
    mappings: List,
}

/// A list of ports.
#[derive(Clone, Copy, Debug, Default)]
enum List {
    /// Or `null`, or missing.
    #[default]
    Empty,
    /// It has so many elements.
    Of(usize),
    /// Something else is in its place.
    Odd,
}

/// How an app's tasks are connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Host,
    Bridge,
    Container,
}

impl Found {
    /// Walks through an app. It fails with a data error only where it is no object.
    pub(super) fn read(json: &[u8]) -> serde_json::Result<Found> {
        let (mut found, mut json) = (Found::default(), Deserializer::from_slice(json));
        Walk { place: Place::App, found: &mut found }.deserialize(&mut json)?;
        json.end()?;
        Ok(found)
    }

    /// Notes what is at a place, before what is in it; of two members of one name the later counts.
    fn note(&mut self, place: &Place, content: &Content<'_>) {
        match place {
            Place::Id => self.id = content.text().map(str::to_string),
            Place::Version => self.version = content.text().unwrap_or_default().to_string(),
            Place::Instances => self.instances = content.number(),
            Place::VersionInfo => self.configured.clear(),
            Place::LastConfigChange => {
                self.configured = content.text().unwrap_or_default().to_string();
            }
            Place::Labels => {
                self.labels.clear();
                self.has_odd_labels = !matches!(content, Content::Null | Content::Object);
            }
            Place::Label(name) => match content.text() {
                Some(text) => drop(self.labels.insert(name.clone(), text.to_string())),
                None => drop(self.labels.remove(name)),
            },
            // Its elements have spoken.
            Place::Networks if matches!(content, Content::List(1..)) => {}
            Place::Networks => self.network = None,
            Place::Network => self.network = Some(Mode::Container),
            Place::NetworkMode => {
                // Modes that nobody knows yet count as containers with an address of their own, as
                // a missing mode does.
                self.network = Some(match content.text() {
                    Some("host") => Mode::Host,
                    Some("container/bridge") => Mode::Bridge,
                    _ => Mode::Container,
                });
            }
            Place::Container => self.container = Container::default(),
            Place::PortMappings => self.container.mappings = content.list(),
            Place::Docker => self.container.docker = Docker::default(),
            Place::DockerPortMappings => self.container.docker.mappings = content.list(),
            Place::DockerNetwork => {
                self.container.docker.network = match content.text() {
                    Some("USER") => Some(Mode::Container),
                    Some("BRIDGE") => Some(Mode::Bridge),
                    _ => None,
                };
            }
            Place::IpAddress => {
                self.has_address = !matches!(content, Content::Null);
                self.discovered = List::Empty;
            }
            Place::Discovery => self.discovered = List::Empty,
            Place::DiscoveryPorts => self.discovered = content.list(),
            Place::PortDefinitions => self.definitions = content.list(),
            Place::Ports => self.numbers = content.list(),
            Place::App | Place::Elsewhere => {}
        }
    }

    /// The last of `networks` decides (Marathon 1.5 and later); before, `container.docker.network`,
    /// then `ipAddress`; without any, the tasks share the agent's network.
    fn mode(&self) -> Mode {
        let without = if self.has_address { Mode::Container } else { Mode::Host };
        self.network.or(self.container.docker.network).unwrap_or(without)
    }

    /// The number of ports, by the list that counts for the app's networking; none found is 0. Fails
    /// with the name of what should be a list.
    pub(super) fn port_count(&self) -> Result<usize, &'static str> {
        let definitions = [("portDefinitions", self.definitions), ("ports", self.numbers)];
        let mappings = [
            ("portMappings", self.container.mappings),
            ("docker.portMappings", self.container.docker.mappings),
        ];
        let discovered = ("discovery.ports", self.discovered);
        match self.mode() {
            Mode::Host => first_list(&definitions),
            Mode::Bridge => first_list(&[definitions, mappings].concat()),
            Mode::Container => first_list(&[&[discovered][..], &mappings].concat()),
        }
    }
}

/// The length of the first list that has elements.
fn first_list(lists: &[(&'static str, List)]) -> Result<usize, &'static str> {
    for (name, list) in lists {
        match list {
            List::Empty => {}
            List::Of(count) => return Ok(*count),
            List::Odd => return Err(name),
        }
    }
    Ok(0)
}

/// A place in an app's definition.
#[derive(Debug)]
enum Place {
    App,
    Id,
    Version,
    Instances,
    VersionInfo,
    LastConfigChange,
    Labels,
    /// The label of this name.
    Label(String),
    Networks,
    Network,
    NetworkMode,
    Container,
    PortMappings,
    Docker,
    DockerNetwork,
    DockerPortMappings,
    IpAddress,
    Discovery,
    DiscoveryPorts,
    PortDefinitions,
    Ports,
    /// Most of an app's bytes are in members that do not count. They are skipped: no memory is
    /// taken for them.
    Elsewhere,
}

impl Place {
    fn member(&self, name: &str) -> Place {
        match (self, name) {
            (Place::App, "id") => Place::Id,
            (Place::App, "version") => Place::Version,
            (Place::App, "instances") => Place::Instances,
            (Place::App, "versionInfo") => Place::VersionInfo,
            (Place::VersionInfo, "lastConfigChangeAt") => Place::LastConfigChange,
            (Place::App, "labels") => Place::Labels,
            (Place::App, "networks") => Place::Networks,
            (Place::App, "container") => Place::Container,
            (Place::App, "ipAddress") => Place::IpAddress,
            (Place::App, "portDefinitions") => Place::PortDefinitions,
            (Place::App, "ports") => Place::Ports,
            (Place::Labels, name) if may_count(name) => Place::Label(name.to_string()),
            (Place::Network, "mode") => Place::NetworkMode,
            (Place::Container, "docker") => Place::Docker,
            (Place::Container, "portMappings") => Place::PortMappings,
            (Place::Docker, "network") => Place::DockerNetwork,
            (Place::Docker, "portMappings") => Place::DockerPortMappings,
            (Place::IpAddress, "discovery") => Place::Discovery,
            (Place::Discovery, "ports") => Place::DiscoveryPorts,
            _ => Place::Elsewhere,
        }
    }

    fn element(&self) -> Place {
        if matches!(self, Place::Networks) { Place::Network } else { Place::Elsewhere }
    }
}

/// What is at a place.
#[derive(Debug)]
enum Content<'a> {
    Null,
    Text(&'a str),
    /// A whole one, from 0.
    Number(u64),
    /// So many elements.
    List(usize),
    Object,
    Other,
}

impl Content<'_> {
    fn text(&self) -> Option<&str> {
        if let Content::Text(text) = self { Some(text) } else { None }
    }

    fn number(&self) -> Option<u64> {
        if let Content::Number(number) = self { Some(*number) } else { None }
    }

    fn list(&self) -> List {
        match self {
            Content::Null | Content::List(0) => List::Empty,
            Content::List(count) => List::Of(*count),
            _ => List::Odd,
        }
    }
}

/// Goes through the value at a place, and notes what it finds. One walk for all places: each type of its
/// own that reads JSON brings a parser of its own into the program.
struct Walk<'a> {
    place: Place,
    found: &'a mut Found,
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        match self.place {
            Place::App => json.deserialize_map(self),
            Place::Elsewhere => json.deserialize_ignored_any(IgnoredAny).map(drop),
            _ => json.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an app")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.found.note(&self.place, &Content::Null);
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.found.note(&self.place, &Content::Text(text));
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        self.found.note(&self.place, &Content::Other);
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        self.found.note(&self.place, &Content::Other);
        Ok(())
    }

    fn visit_u64<E>(self, number: u64) -> Result<(), E> {
        self.found.note(&self.place, &Content::Number(number));
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        self.found.note(&self.place, &Content::Other);
        Ok(())
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut elements: S) -> Result<(), S::Error> {
        let Walk { place, found } = self;
        let mut count = 0;
        while elements.next_element_seed(Walk { place: place.element(), found })?.is_some() {
            count += 1;
        }
        found.note(&place, &Content::List(count));
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(self, mut members: M) -> Result<(), M::Error> {
        let Walk { place, found } = self;
        found.note(&place, &Content::Object);
        while let Some(place) = members.next_key_seed(Name { of: &place })? {
            members.next_value_seed(Walk { place, found })?;
        }
        Ok(())
    }
}

/// Whether any module reads a label of that name. Most labels are for other programs.
fn may_count(label: &str) -> bool {
    label.starts_with("MARATHON_ACME_") || label.starts_with("HAPROXY_")
}

/// Reads a member's name: no memory is taken for it, since it only says which place is next.
struct Name<'a> {
    of: &'a Place,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Place;

    fn deserialize<D: serde::Deserializer<'de>>(self, json: D) -> Result<Place, D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Place;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Place, E> {
        Ok(self.of.member(name))
    }
}

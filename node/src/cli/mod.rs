//! The command line.

mod ca;
mod client;
mod doctor;
mod drains;
mod leaders;
mod members;
mod recordings;
mod status;
mod tenants;
mod trace;

use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use crate::dev::{self, control::Action, plan};
use crate::replay::{self, Replay};
use crate::{config, server};

/// A call centre that does not drop calls.
#[derive(Debug, Parser)]
#[command(name = "tandem", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a whole cluster on this machine and supervise it
    Dev(Dev),
    /// Ask a running cluster how it is
    #[command(subcommand)]
    Cluster(Cluster),
    /// What of this machine or a cluster will hurt, and what to do about it
    Doctor(Doctor),
    /// Certificates: the cluster's authority, those of its processes, the way to a new one
    #[command(subcommand)]
    Ca(ca::Ca),
    /// Where each tenant is, and move it
    #[command(subcommand)]
    Tenant(Tenant),
    /// Look at one call
    #[command(subcommand)]
    Call(CallCommand),
    /// What was recorded
    #[command(subcommand)]
    Recordings(Recordings),
    /// Look at configuration files
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Step through a recorded log: each entry, and what it did to which entity
    Replay(Replay),
    /// Run a node: consensus, state, actors; or empty a process, and let it work again
    Node(NodeArgs),
    /// Run a gateway: SIP, RTP, recordings, HTTP
    Gateway(Server),
    /// Run a witness: a voter without state
    Witness(Server),
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Dev {
    #[command(subcommand)]
    action: Option<DevAction>,
    /// Everything of the cluster lies here; started again on it, the cluster goes on
    #[arg(long, required = true)]
    dir: Option<PathBuf>,
    /// Boxes: a node and a gateway each
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=i64::from(plan::BOXES_MAX)))]
    boxes: u16,
    /// Witnesses: voters without state
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(0..=i64::from(plan::WITNESSES_MAX)))]
    witnesses: u16,
    /// Tenant shards: 4 unless said; set when the cluster is made
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(config::SHARDS_MAX)))]
    shards: Option<u16>,
    /// Put the service addresses on this address of a real interface
    #[arg(long)]
    bind: Option<IpAddr>,
    /// Tenant and addresses; see `tandem config check`
    #[arg(long)]
    config: Option<PathBuf>,
    /// Bring a process back that died
    #[arg(long)]
    restart: bool,
    /// Let tests make actors panic
    #[arg(long, hide = true)]
    fault_injection: bool,
    /// Let tests wake a gateway up that stood still
    #[arg(long, hide = true)]
    spare_stopped: bool,
}

#[derive(Debug, Subcommand)]
enum DevAction {
    /// Start one process of a running cluster
    Start(Named),
    /// Stop one process of a running cluster
    Stop(Named),
    /// Start a witness for a running cluster that has none, and make it a member
    AddWitness(AddWitness),
}

#[derive(Debug, Args)]
struct AddWitness {
    /// The folder of the cluster
    #[arg(long)]
    dir: PathBuf,
    /// Seconds to wait until it votes
    #[arg(long, default_value_t = 120)]
    timeout: u64,
}

#[derive(Debug, Args)]
struct Named {
    /// For instance node-a, gateway-b or witness
    name: String,
    /// The folder of the cluster
    #[arg(long)]
    dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Cluster {
    /// Roles, versions, leaders, lag, disks, calls, and what may be lost right now
    Status(ClusterStatus),
    /// Give the lead of one shard to a node; its calls go on
    MoveLeader(MoveLeader),
    /// Who belongs to it, how far behind each is, and who may be removed
    Members(Status),
    /// Let in a node or witness that waits with an empty folder; it votes once it has caught up
    Add(AddMember),
    /// Remove a node or witness
    Remove(Changed),
    /// Let in a node or witness that has lost its folder, in the place of what it was
    Replace(Changed),
}

#[derive(Debug, Subcommand)]
enum Tenant {
    /// The shard of each, and its live calls
    List(Status),
    /// Add the tenant of a configuration file, or change it to what the file says
    Apply(ApplyTenant),
    /// Put a tenant into another shard; its calls go on
    Move(MoveTenant),
}

#[derive(Debug, Args)]
struct ApplyTenant {
    /// Its tables [tenant], [[trunk]], [[queue]], [[agent]], [[number]], [[route]] and [[flow]]
    file: PathBuf,
    /// Where a new one begins, for instance s2 [default: where the fewest are]
    #[arg(long)]
    shard: Option<String>,
    /// Seconds to wait until it takes calls
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct MoveTenant {
    /// For instance demo
    tenant: String,
    /// For instance s2
    shard: String,
    /// Seconds to wait until it is there
    #[arg(long, default_value_t = 30)]
    timeout: u64,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct AddMember {
    #[command(flatten)]
    changed: Changed,
    /// Where it listens for other voters, for instance 127.0.0.1:7103
    address: std::net::SocketAddr,
    /// It is a witness
    #[arg(long)]
    witness: bool,
}

#[derive(Debug, Args)]
struct Changed {
    /// For instance node-b or witness
    name: String,
    /// Seconds to wait until it is done; it goes on without this command
    #[arg(long, default_value_t = 120)]
    timeout: u64,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct MoveLeader {
    /// As `tandem cluster status` names it, for instance s0 or meta
    shard: String,
    /// For instance node-b
    node: String,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct Doctor {
    /// Configuration files of processes of this machine
    #[arg(value_name = "FILE")]
    files: Vec<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// The folder of a cluster that `tandem dev` runs: its processes, and what they say
    #[arg(long, conflicts_with_all = ["endpoint", "token_file"])]
    dir: Option<PathBuf>,
    /// The base URL of a gateway's API
    #[arg(long, requires = "token_file")]
    endpoint: Option<String>,
    /// A file with the admin token
    #[arg(long, requires = "endpoint")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ClusterStatus {
    /// Paint it again, every second or so many seconds, until ctrl-C
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
        value_parser = clap::value_parser!(u16).range(1..=3_600))]
    watch: Option<u16>,
    #[command(flatten)]
    status: Status,
}

#[derive(Debug, Args)]
struct Status {
    /// As JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum CallCommand {
    /// What a call said and did, live or ended within the last day, as a ladder
    Trace(Trace),
}

#[derive(Debug, Args)]
struct Trace {
    /// The call's id, as the API and the CDR have it
    id: String,
    /// As JSON
    #[arg(long, conflicts_with_all = ["html", "pcap"])]
    json: bool,
    /// Write a page for a browser, with every message whole
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the messages as a capture for Wireshark
    #[arg(long, value_name = "FILE")]
    pcap: Option<PathBuf>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum Recordings {
    /// What was recorded, and where it is
    List(List),
    /// Write the audio of one to a file: WAV, the caller left, the agent right
    Get(Get),
    /// Read every copy again; exits 1 where one is not what was recorded
    Verify(Verify),
}

#[derive(Debug, Args)]
struct List {
    /// Of this call
    #[arg(long)]
    call: Option<String>,
    /// Begun then or later, for instance 2026-11-24T12:00:00.000Z
    #[arg(long)]
    since: Option<String>,
    /// As many at most
    #[arg(long, default_value_t = 200)]
    limit: usize,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Whose they are [default: the tenant of the cluster's file]
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct Get {
    /// The recording's id, as the API and the CDR have it
    id: String,
    /// Where it is written
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Whose they are [default: the tenant of the cluster's file]
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct Verify {
    /// The recording's id
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// Every recording
    #[arg(long)]
    all: bool,
    /// Make a damaged copy right from one that is good
    #[arg(long)]
    repair: bool,
    /// As JSON
    #[arg(long)]
    json: bool,
    /// Whose they are [default: the tenant of the cluster's file]
    #[arg(long)]
    tenant: Option<String>,
    #[command(flatten)]
    which: Which,
}

/// Which cluster is meant.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Which {
    /// The folder of a cluster that `tandem dev` runs
    #[arg(long, conflicts_with_all = ["endpoint", "token_file"])]
    dir: Option<PathBuf>,
    /// The base URL of a gateway's API, for instance http://127.0.0.12:8080
    #[arg(long, requires = "token_file")]
    endpoint: Option<String>,
    /// A file with the admin token
    #[arg(long, requires = "endpoint")]
    token_file: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Explain every mistake of a file with line, key and what was expected
    Check { file: PathBuf },
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct NodeArgs {
    #[command(subcommand)]
    action: Option<NodeAction>,
    /// The process's configuration file
    #[arg(long, required = true)]
    config: Option<PathBuf>,
    /// Grows with each start; the time of the start unless a supervisor says otherwise
    #[arg(long, hide = true)]
    incarnation: Option<u64>,
}

#[derive(Debug, Subcommand)]
enum NodeAction {
    /// Send what a node, gateway or box has to the others, live calls included, and give it nothing until it is undrained
    Drain(DrainArgs),
    /// Let a node, gateway or box have its part again
    Undrain(UndrainArgs),
}

#[derive(Debug, Args)]
struct DrainArgs {
    /// For instance node-a, gateway-b, or a for a whole box
    name: String,
    /// Seconds to wait until nothing is left there; it goes on without this command
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct UndrainArgs {
    /// For instance node-a, gateway-b, or a for a whole box
    name: String,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, Args)]
struct Server {
    /// The process's configuration file
    #[arg(long)]
    config: PathBuf,
    /// Grows with each start; the time of the start unless a supervisor says otherwise
    #[arg(long, hide = true)]
    incarnation: Option<u64>,
}

pub fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Dev(dev) => run_dev(dev),
        Command::Doctor(Doctor { files, json, dir, endpoint, token_file }) => {
            let which = Which { dir, endpoint, token_file };
            let asks = which.dir.is_some() || which.endpoint.is_some();
            doctor::run(&files, asks.then_some(&which), json)
        }
        Command::Cluster(Cluster::Status(ClusterStatus { watch, status })) => {
            status::run(&status.which, status.json, watch)
        }
        Command::Cluster(Cluster::MoveLeader(asked)) => leaders::run(&asked),
        Command::Cluster(Cluster::Members(asked)) => members::show(&asked),
        Command::Cluster(Cluster::Add(asked)) => members::add(&asked),
        Command::Cluster(Cluster::Remove(asked)) => members::remove(&asked),
        Command::Cluster(Cluster::Replace(asked)) => members::replace(&asked),
        Command::Ca(command) => ca::run(&command),
        Command::Tenant(Tenant::List(asked)) => tenants::list(&asked),
        Command::Tenant(Tenant::Apply(asked)) => tenants::apply(&asked),
        Command::Tenant(Tenant::Move(asked)) => tenants::go(&asked),
        Command::Call(CallCommand::Trace(trace)) => trace::run(&trace),
        Command::Recordings(command) => recordings::run(&command),
        Command::Config(ConfigCommand::Check { file }) => {
            config::load(&file)?;
            println!("{}: no mistakes", file.display());
            Ok(())
        }
        Command::Replay(args) => replay::run(&args),
        Command::Node(NodeArgs { action: Some(NodeAction::Drain(asked)), .. }) => {
            drains::drain(&asked)
        }
        Command::Node(NodeArgs { action: Some(NodeAction::Undrain(asked)), .. }) => {
            drains::undrain(&asked)
        }
        Command::Node(NodeArgs { action: None, config, incarnation }) => {
            let config = config.unwrap_or_default();
            server::process::leave(server::node::run(&config, incarnation))
        }
        Command::Gateway(args) => server::gateway::run(&args.config, args.incarnation),
        Command::Witness(args) => {
            server::process::leave(server::witness::run(&args.config, args.incarnation))
        }
    }
}

fn run_dev(dev: Dev) -> Result<()> {
    match dev.action {
        Some(DevAction::Start(named)) => dev::order(&named.dir, Action::Start, &named.name),
        Some(DevAction::AddWitness(AddWitness { dir, timeout })) => {
            let witness = dev::add_witness(&dir)?;
            let which = Which { dir: Some(dir), endpoint: None, token_file: None };
            let changed = Changed { name: witness.name, timeout, which };
            members::add(&AddMember { changed, address: witness.raft, witness: true })
        }
        Some(DevAction::Stop(named)) => dev::order(&named.dir, Action::Stop, &named.name),
        None => dev::run(dev::Options {
            dir: dev.dir.unwrap_or_default(),
            boxes: dev.boxes,
            witnesses: dev.witnesses,
            shards: dev.shards,
            bind: dev.bind,
            config: dev.config,
            restart: dev.restart,
            fault_injection: dev.fault_injection,
            spare_stopped: dev.spare_stopped,
        }),
    }
}

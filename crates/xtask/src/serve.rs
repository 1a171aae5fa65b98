//! `cargo xtask services`: starts the test services, says where they are, and keeps them.

use std::thread;

use crate::services::{Kafka, SUPER_USER};
use anyhow::Result;

/// Starts the services and never returns: Ctrl-C ends the process, and the services with it.
pub fn run() -> Result<()> {
    let kafka = Kafka::start()?;
    println!("kafka, plain text    {}", kafka.bootstrap());
    println!(
        "kafka, SASL and TLS  {} (SCRAM-SHA-512 or PLAIN, user {}, password {})",
        kafka.sasl_bootstrap(),
        SUPER_USER.user,
        SUPER_USER.password
    );
    println!("kafka, mutual TLS    {}", kafka.tls_bootstrap());
    println!("authority            {}", kafka.ca_file().display());
    println!(
        "client certificate   {}",
        kafka.client_certificate_file().display()
    );
    println!("client key           {}", kafka.client_key_file().display());
    println!("broker's log         {}", kafka.log_file().display());
    println!("Ctrl-C ends them.");
    loop {
        // A parked thread may wake for no reason.
        thread::park();
    }
}

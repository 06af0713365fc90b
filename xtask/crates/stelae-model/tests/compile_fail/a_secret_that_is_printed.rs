//! A secret has no text to print.

use stelae_model::value::Secret;

fn main() {
    let token = Secret::new("hunter2".to_owned());
    println!("the token is {token}");
}

//! What several of these tests need: the demo, served on a port of its own.

use bowerbird::cli::PostCount;
use bowerbird::config::Config;
use bowerbird::demo;
use bowerbird::http::router;
use bowerbird::stack::Stack;
use bowerbird_tests::{post, test_config, write};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::sync::OnceCell;

/// How many demo posts the tests index: enough for the sample queries, few enough for a minute.
const POSTS: usize = 2500;

/// The demo's data is kept between runs, next to the models: embedding 2,500 posts takes a while.
fn data_dir() -> std::path::PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(Into::into).or_else(|| {
        std::env::var_os("HOME").map(|home| std::path::PathBuf::from(home).join(".cache"))
    });
    cache.expect("HOME is set").join("bowerbird").join("test-data").join(format!("demo-{POSTS}"))
}

/// The demo stack with real models, opened once per process.
pub async fn demo_stack() -> Stack {
    static STACK: OnceCell<Stack> = OnceCell::const_new();
    let open = || async {
        let config: Config = test_config();
        let dir = data_dir();
        std::fs::create_dir_all(&dir).expect("a directory for test data");
        let stack = demo::prepare(&config, &dir, PostCount::First(POSTS)).await.unwrap_or_else(|e| panic!("{e:#}"));
        let hostile = post("hostile-1", "mallory", "2015-01-02", "<script>document.title='owned'</script> <b>soda</b> hostile markup stays text");
        write(&stack, vec![hostile]).await;
        stack
    };
    STACK.get_or_init(open).await.clone()
}

/// The address of the demo, served from a thread of its own so that it outlives the test that came first.
pub async fn running_demo() -> &'static str {
    static ADDRESS: OnceCell<String> = OnceCell::const_new();
    let start = || async {
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            runtime.block_on(async {
                let stack = demo_stack().await;
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
                let address = format!("http://{}", listener.local_addr().expect("an address"));
                let metrics = PrometheusBuilder::new().build_recorder().handle();
                tell.send(address).expect("the test waits");
                axum::serve(listener, router(stack, metrics)).await.expect("serves");
            });
        });
        told.await.expect("the server starts")
    };
    ADDRESS.get_or_init(start).await
}

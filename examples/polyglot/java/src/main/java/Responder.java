import static java.nio.charset.StandardCharsets.UTF_8;

import com.google.gson.Gson;
import io.nats.client.*;
import io.nats.client.impl.Headers;
import java.time.*;
import java.time.temporal.ChronoUnit;
import java.util.*;
import java.util.concurrent.*;

/** The protocol's side: subscriptions, deadlines, heartbeats, replies. Nothing here knows what a task does. */
record Responder(Connection nats, ExecutorService threads, Semaphore room) {
    private static final byte[] NOTHING = {};
    private static final byte[] ENDED = {};

    interface Handler { byte[] handle(Attempt attempt) throws Exception; }

    record Task(String payload, String deadline) {}

    record Attempt(byte[] payload, String text, Headers headers, Queue<byte[]> steps) {
        /** Names are compared without case; a blank value counts as absent. */
        String header(String name, String otherwise) {
            var values = Optional.ofNullable(headers.getIgnoreCase(name)).orElse(List.of());
            return values.stream().map(String::strip).filter(value -> !value.isEmpty()).findFirst().orElse(otherwise);
        }

        void progress(int percent, String message) {
            steps.add(new Gson().toJson(Map.of("percent", percent, "message", message)).getBytes(UTF_8));
        }
    }

    /** Says by its headers what becomes of the task; any other exception is an AJ-Error. */
    static final class Failure extends Exception {
        private String lines = "NATS/1.0\r\n";

        Failure(String... namesAndTexts) {
            for (int i = 0; i < namesAndTexts.length; i += 2) {
                var line = namesAndTexts[i + 1].replaceAll("\\p{Cntrl}", " ").strip().replaceAll("^(.{1000}).+", "$1");
                lines += namesAndTexts[i] + ": " + (line.isEmpty() ? "no text" : line) + "\r\n";
            }
        }

        /** Texts are UTF-8, but jnats lets nothing but ASCII into its headers: so these bring their own bytes. */
        Headers headers() {
            var block = (lines + "\r\n").getBytes(UTF_8);
            return new Headers(null, true) {
                public boolean isEmpty() { return false; }
                public int serializedLength() { return block.length; }
                public int serializeToArray(int at, byte[] into) {
                    System.arraycopy(block, 0, into, at, block.length);
                    return block.length;
                }
            };
        }
    }

    /** Serves `family:name` for each handler, `limit` attempts at once, until SIGTERM; then finishes what runs. */
    static void serve(String family, int limit, Map<String, Handler> handlers) throws Exception {
        var url = System.getenv().getOrDefault("NATS_URL", "nats://127.0.0.1:4222");
        var options = new Options.Builder().server(url).connectionName("polyglot-java").maxReconnects(-1);
        var nats = Nats.connectReconnectOnConnect(options.reconnectWait(Duration.ofMillis(250)).build());
        var responder = new Responder(nats, Executors.newCachedThreadPool(), new Semaphore(limit));
        var requests = nats.createDispatcher();
        handlers.forEach((name, handler) -> requests.subscribe(
            "ajc.exec." + family + ":" + name, "ajc", request -> responder.begin(request, handler)));
        Runtime.getRuntime().addShutdownHook(new Thread(() -> {
            try {
                requests.drain(Duration.ofSeconds(5)).get(); // leaves the queue group; what has arrived is still served
                responder.room.acquire(limit); // all have ended
                nats.flush(Duration.ofSeconds(5));
            } catch (Exception error) { error.printStackTrace(); }
            Runtime.getRuntime().halt(0);
        }));
    }

    private void begin(Message request, Handler handler) {
        boolean placed = room.tryAcquire();
        threads.execute(() -> {
            try {
                nats.publish(request.getReplyTo(), attempt(request, handler, placed));
            } catch (Throwable thrown) {
                var cause = thrown instanceof ExecutionException ? thrown.getCause() : thrown;
                var failure = cause instanceof Failure known ? known : new Failure("AJ-Error", cause.toString());
                nats.publish(request.getReplyTo(), failure.headers(), NOTHING);
            } finally {
                room.release(placed ? 1 : 0);
            }
        });
    }

    private byte[] attempt(Message request, Handler handler, boolean placed) throws Exception {
        var task = new Gson().fromJson(new String(request.getData(), UTF_8), Task.class);
        var payload = Base64.getDecoder().decode(Objects.requireNonNullElse(task.payload, ""));
        var steps = new LinkedBlockingQueue<byte[]>();
        var headers = Objects.requireNonNullElse(request.getHeaders(), new Headers());
        var attempt = new Attempt(payload, new String(payload, UTF_8), headers, steps);
        var version = attempt.header("AJ-Protocol", "1");
        if (!placed || !version.equals("1")) {
            throw new Failure("AJ-Busy", placed ? "protocol " + version + " is not spoken here" : "there is no room");
        }
        long runTime = TimeUnit.MILLISECONDS.toNanos(Long.parseLong(attempt.header("AJ-Timeout-Ms", "30000")));
        long pause = 750_000 * Long.parseLong(attempt.header("AJ-Heartbeat-Ms", "1000")); // in ns: three quarters of it
        var most = task.deadline == null ? Instant.now().plus(9999, ChronoUnit.DAYS) : Instant.parse(task.deadline);
        long last = System.nanoTime() + Instant.now().until(most, ChronoUnit.NANOS);
        long deadline = Math.min(System.nanoTime() + runTime, last);
        var subject = attempt.header("AJ-Heartbeat-Subject", null);
        var work = new FutureTask<>(() -> handler.handle(attempt)) {
            protected void done() { steps.add(ENDED); }
        };
        threads.execute(work);
        while (true) {
            long left = deadline - 50_000_000 - System.nanoTime(); // 50 ms for the reply to arrive
            byte[] step = steps.poll(Math.min(left, pause), TimeUnit.NANOSECONDS);
            if (step == ENDED && work.get().length <= nats.getMaxPayload()) {
                return work.get();
            } else if (step == ENDED) {
                throw new Failure("AJ-Terminate", "the result is too large");
            } else if (step == null && left <= pause) {
                work.cancel(true);
                throw new Failure("AJ-Error", "not done by the deadline");
            } else if (subject != null) { // a beat gives a full run time again, never past the task's own deadline
                nats.publish(subject, step == null ? NOTHING : step);
                deadline = Math.min(System.nanoTime() + runTime, last);
            }
        }
    }
}

package licensemetering;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.net.InetAddress;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.KeyStore;
import java.security.MessageDigest;
import java.security.cert.Certificate;
import java.security.cert.CertificateException;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Base64;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Flow;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.function.Consumer;
import java.util.regex.Pattern;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLHandshakeException;
import javax.net.ssl.SSLParameters;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509ExtendedTrustManager;

/** One bounded HTTPS request: no redirect is followed, no body exceeds its limit, no answer takes longer than its deadline. */
final class Transport {
    private static final Pattern PIN = Pattern.compile("sha256/[A-Za-z0-9+/]{43}=");

    private final String base;
    private final HttpClient client;

    /** What came. */
    record Answer(int status, Duration retryAfter, byte[] body) {
    }

    Transport(Client.Options options) {
        URI uri;
        try {
            uri = URI.create(options.url);
        } catch (IllegalArgumentException | NullPointerException none) {
            throw new IllegalArgumentException("url must be https://host[:port][/path]");
        }
        boolean isTls = "https".equals(uri.getScheme());
        if (!(isTls || "http".equals(uri.getScheme())) || uri.getHost() == null || uri.getQuery() != null
            || uri.getFragment() != null || uri.getUserInfo() != null) {
            throw new IllegalArgumentException("url must be https://host[:port][/path]");
        }
        if (!isTls && !isLoopback(uri.getHost())) {
            throw new IllegalArgumentException(
                "url must be https: license keys and tokens are secrets (http is for loopback addresses)");
        }
        if (!options.pinMode.equals("enforce") && !options.pinMode.equals("report")) {
            throw new IllegalArgumentException("pinMode must be enforce or report");
        }
        List<byte[]> pins = pins(options.pins);
        if (!pins.isEmpty() && !isTls) {
            throw new IllegalArgumentException("pins need https");
        }
        base = options.url.replaceFirst("/+$", "");
        SSLParameters parameters = new SSLParameters();
        parameters.setProtocols(new String[] {"TLSv1.3", "TLSv1.2"});
        HttpClient.Builder builder = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1)
            .followRedirects(HttpClient.Redirect.NEVER)
            .proxy(HttpClient.Builder.NO_PROXY)
            .connectTimeout(options.connectTimeout)
            .sslParameters(parameters);
        if (isTls) {
            builder.sslContext(context(options, pins));
        }
        client = builder.build();
    }

    /** The deadline is a time of System.nanoTime. */
    Answer request(String method, String path, Map<String, String> headers, long deadline, int limit, String body)
        throws NoAnswer {
        long left = deadline - System.nanoTime();
        if (left <= 0) {
            throw new NoAnswer("timeout", true);
        }
        HttpRequest.BodyPublisher publisher =
            body == null ? HttpRequest.BodyPublishers.noBody() : HttpRequest.BodyPublishers.ofString(body);
        HttpRequest.Builder request =
            HttpRequest.newBuilder(URI.create(base + path)).method(method, publisher).timeout(Duration.ofNanos(left));
        headers.forEach(request::header);
        CompletableFuture<HttpResponse<byte[]>> future = client.sendAsync(request.build(), info -> new Limited(limit));
        try {
            // The client's own timeout ends with the headers; this one counts for the whole.
            HttpResponse<byte[]> response = future.get(left, TimeUnit.NANOSECONDS);
            String seconds = response.headers().firstValue("Retry-After").orElse("");
            long wait = seconds.matches("[0-9]{1,6}") ? Long.parseLong(seconds) : 0;
            return new Answer(response.statusCode(), Duration.ofSeconds(wait), response.body());
        } catch (TimeoutException late) {
            future.cancel(true);
            throw new NoAnswer("timeout", true);
        } catch (InterruptedException interrupted) {
            future.cancel(true);
            Thread.currentThread().interrupt();
            throw new NoAnswer("timeout", false);
        } catch (ExecutionException failure) {
            throw translated(failure);
        }
    }

    private static NoAnswer translated(Throwable failure) {
        boolean isTls = false;
        boolean isLate = false;
        for (Throwable cause = failure; cause != null; cause = cause.getCause()) {
            if (cause instanceof TooLarge) {
                return new NoAnswer("too_large", false);
            }
            if (cause instanceof PinMismatch) {
                return new NoAnswer("pin_mismatch", false);
            }
            isTls |= cause instanceof CertificateException || cause instanceof SSLHandshakeException;
            isLate |= cause instanceof java.net.http.HttpTimeoutException;
        }
        return isTls ? new NoAnswer("tls", false) : new NoAnswer(isLate ? "timeout" : "connection", true);
    }

    private static boolean isLoopback(String host) {
        // No name is looked up: only an address or localhost is one.
        String address = host.replaceAll("[\\[\\]]", "");
        try {
            return host.equals("localhost")
                || (address.matches("[0-9.]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*") && InetAddress.getByName(address).isLoopbackAddress());
        } catch (IOException none) {
            return false;
        }
    }

    private static List<byte[]> pins(List<String> pins) {
        List<byte[]> decoded = new ArrayList<>();
        Set<String> known = new HashSet<>(pins);
        for (String pin : pins) {
            if (!PIN.matcher(pin).matches()) {
                throw new IllegalArgumentException("a pin must be sha256/ and the base64 of the SHA-256 of a public key (SPKI)");
            }
            decoded.add(Base64.getDecoder().decode(pin.substring(7)));
        }
        if (!decoded.isEmpty() && known.size() < 2) {
            throw new IllegalArgumentException(
                "pins must be at least two: without a spare one, a new key of the service locks every client out");
        }
        return decoded;
    }

    private static SSLContext context(Client.Options options, List<byte[]> pins) {
        try {
            TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
            factory.init(options.caFile == null ? null : authorities(options.caFile));
            X509ExtendedTrustManager normal = null;
            for (TrustManager manager : factory.getTrustManagers()) {
                normal = manager instanceof X509ExtendedTrustManager extended ? extended : normal;
            }
            TrustManager manager = new Pinned(normal, pins, options.pinMode.equals("enforce"), options.onProblem);
            SSLContext context = SSLContext.getInstance("TLS");
            context.init(null, new TrustManager[] {manager}, null);
            return context;
        } catch (GeneralSecurityException | IOException failure) {
            throw new IllegalArgumentException("caFile must hold certificates in PEM", failure);
        }
    }

    private static KeyStore authorities(Path file) throws GeneralSecurityException, IOException {
        KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
        store.load(null, null);
        try (InputStream stream = Files.newInputStream(file)) {
            for (Certificate certificate : CertificateFactory.getInstance("X.509").generateCertificates(stream)) {
                store.setCertificateEntry("authority-" + store.size(), certificate);
            }
        }
        return store;
    }

    /** A body with an end. */
    private static final class Limited implements HttpResponse.BodySubscriber<byte[]> {
        private final CompletableFuture<byte[]> body = new CompletableFuture<>();
        private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        private final int limit;
        private Flow.Subscription subscription;

        Limited(int limit) {
            this.limit = limit;
        }

        @Override
        public CompletionStage<byte[]> getBody() {
            return body;
        }

        @Override
        public void onSubscribe(Flow.Subscription subscription) {
            this.subscription = subscription;
            subscription.request(Long.MAX_VALUE);
        }

        @Override
        public void onNext(List<ByteBuffer> buffers) {
            for (ByteBuffer buffer : buffers) {
                byte[] chunk = new byte[Math.min(buffer.remaining(), limit + 1 - bytes.size())];
                buffer.get(chunk);
                bytes.writeBytes(chunk);
                if (bytes.size() > limit) {
                    subscription.cancel();
                    body.completeExceptionally(new TooLarge());
                    return;
                }
            }
        }

        @Override
        public void onError(Throwable failure) {
            body.completeExceptionally(failure);
        }

        @Override
        public void onComplete() {
            body.complete(bytes.toByteArray());
        }
    }

    private static final class TooLarge extends IOException {
        private static final long serialVersionUID = 1;
    }

    private static final class PinMismatch extends CertificateException {
        private static final long serialVersionUID = 1;
    }

    /** The normal checks, and then the pins. */
    private static final class Pinned extends X509ExtendedTrustManager {
        private final X509ExtendedTrustManager normal;
        private final List<byte[]> pins;
        private final boolean isEnforced;
        private final Consumer<String> report;

        Pinned(X509ExtendedTrustManager normal, List<byte[]> pins, boolean isEnforced, Consumer<String> report) {
            this.normal = normal;
            this.pins = pins;
            this.isEnforced = isEnforced;
            this.report = report;
        }

        private void checkPins(X509Certificate[] chain) throws CertificateException {
            byte[] found = KeySet.sha256(chain[0].getPublicKey().getEncoded());
            if (pins.isEmpty() || pins.stream().anyMatch(pin -> MessageDigest.isEqual(pin, found))) {
                return;
            }
            report.accept("pin_mismatch");
            if (isEnforced) {
                throw new PinMismatch();
            }
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
            normal.checkServerTrusted(chain, type, engine);
            checkPins(chain);
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
            normal.checkServerTrusted(chain, type, socket);
            checkPins(chain);
        }

        @Override
        public void checkServerTrusted(X509Certificate[] chain, String type) throws CertificateException {
            normal.checkServerTrusted(chain, type);
            checkPins(chain);
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, SSLEngine engine) throws CertificateException {
            normal.checkClientTrusted(chain, type, engine);
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type, Socket socket) throws CertificateException {
            normal.checkClientTrusted(chain, type, socket);
        }

        @Override
        public void checkClientTrusted(X509Certificate[] chain, String type) throws CertificateException {
            normal.checkClientTrusted(chain, type);
        }

        @Override
        public X509Certificate[] getAcceptedIssuers() {
            return normal.getAcceptedIssuers();
        }
    }
}

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.stream.IntStream;
import jakarta.servlet.FilterChain;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import licensemetering.Client;
import licensemetering.DomainName;
import licensemetering.FakeClient;
import licensemetering.InvalidKeySetException;
import licensemetering.KeySet;
import licensemetering.LicenseClaims;
import licensemetering.Result;
import licensemetering.TokenRefusedException;
import licensemetering.Verdict;
import licensemetering.servlet.LicenseFilter;

/** Lets the conformance runner try this SDK: a JSON object a line in, one a line out. */
public final class Driver {
    private Client client;
    private volatile long offset;
    private String licenseKey;
    private final List<String> problems = new CopyOnWriteArrayList<>();

    /** Reads lines until there are no more. */
    public static void main(String[] arguments) throws Exception {
        Driver driver = new Driver();
        PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            out.println(Lines.write(driver.answer(Lines.read(line))));
        }
        System.exit(0);
    }

    private Map<String, Object> answer(Map<String, Object> q) throws Exception {
        return switch ((String) q.get("op")) {
            case "hello" -> map("idna", false, "frameworks", List.of("servlet"));
            case "keyset" -> keySet(q);
            case "license" -> license(q);
            case "verdict" -> verdict(q);
            case "domain" -> {
                DomainName name = DomainName.normalize((String) q.get("text"));
                yield map("name", name == null ? null : name.text(), "local", name != null && name.isLocal());
            }
            case "covers" -> {
                DomainName name = DomainName.normalize((String) q.get("domain"));
                yield map("covers", name != null && name.isCoveredBy(texts(q.get("bound"))));
            }
            case "offline" -> offline(q);
            case "open" -> open(q);
            case "validate" -> shown(validate(q));
            case "validateOffline" -> shown(client.validateOffline((String) q.get("domain"), (String) q.get("licenseKey")));
            case "validateMany" -> {
                List<CompletableFuture<Result>> all = IntStream.range(0, (int) number(q, "count", 1))
                    .mapToObj(i -> CompletableFuture.supplyAsync(() -> validate(q), task -> new Thread(task).start())).toList();
                yield map("results", all.stream().map(future -> shown(future.join())).toList());
            }
            case "clock" -> {
                offset = (long) number(q, "offset", 0);
                yield map();
            }
            case "record" -> map("accepted", (int) IntStream.range(0, (int) number(q, "count", 1))
                .filter(i -> client.record((String) q.get("meter"), (long) number(q, "quantity", 1))).count());
            case "flush" -> map("flushed", client.flush(seconds(number(q, "timeout", 5))), "statistics", statistics());
            case "statistics" -> map("statistics", statistics());
            case "problems" -> {
                List<String> taken = List.copyOf(problems);
                problems.clear();
                yield map("problems", taken);
            }
            case "close" -> {
                client.close(seconds(number(q, "timeout", 5)));
                yield map("statistics", statistics());
            }
            default -> middleware(q);
        };
    }

    private static Map<String, Object> keySet(Map<String, Object> q) {
        try {
            return map("keys", new KeySet((String) q.get("set")).keys().stream()
                .map(key -> key.id() + " " + key.algorithm() + " " + key.purpose()).toList());
        } catch (InvalidKeySetException invalid) {
            return map("invalid", true);
        }
    }

    private static Map<String, Object> license(Map<String, Object> q) {
        try {
            LicenseClaims claims = LicenseClaims.verify((String) q.get("token"), new KeySet((String) q.get("keys")));
            Map<String, Object> members = map(
                "licenseId", claims.licenseId(), "domains", claims.domains(), "plan", claims.plan(), "features",
                claims.features(), "limits", claims.limits(), "issuedAt", claims.issuedAt(), "expiresAt",
                claims.expiresAt(), "trial", claims.isTrial());
            if (claims.notBefore() != null) {
                members.put("notBefore", claims.notBefore());
            }
            return map("claims", members);
        } catch (TokenRefusedException refusal) {
            Map<String, Object> members = map("refusal", refusal.code());
            if (refusal.claim() != null) {
                members.put("claim", refusal.claim());
            }
            return members;
        }
    }

    private static Map<String, Object> verdict(Map<String, Object> q) {
        try {
            DomainName domain = DomainName.normalize((String) q.get("domain"));
            Verdict.verify((String) q.get("token"), new KeySet((String) q.get("keys")), (String) q.get("licenseKey"), domain,
                (String) q.get("nonce"), (long) number(q, "now", 0));
            return map();
        } catch (TokenRefusedException refusal) {
            return map("refusal", refusal.code());
        }
    }

    private static Map<String, Object> offline(Map<String, Object> q) {
        String code = "invalid_signature";
        try {
            LicenseClaims claims = LicenseClaims.verify((String) q.get("token"), new KeySet((String) q.get("keys")));
            code = claims.judge((String) q.get("domain"), (long) number(q, "now", 0));
        } catch (TokenRefusedException refusal) {
            // It is what the code says.
        }
        return map("code", code, "valid", code.equals("valid") || code.equals("grace"));
    }

    @SuppressWarnings("unchecked")
    private Map<String, Object> open(Map<String, Object> q) {
        Map<String, Object> o = (Map<String, Object>) q.get("options");
        offset = 0;
        problems.clear();
        licenseKey = (String) o.get("licenseKey");
        try {
            Client.Options made = new Client.Options((String) o.get("url")).licenseKey(licenseKey)
                .token((String) o.get("token")).pins(texts(o.getOrDefault("pins", List.of())))
                .pinMode((String) o.getOrDefault("pinMode", "enforce")).freshFor(seconds(number(o, "freshFor", 300)))
                .graceFor(seconds(number(o, "graceFor", 7 * 86_400)))
                .onUnknown((String) o.getOrDefault("onUnknown", "graceThenDeny"))
                .offlineFallback(Boolean.TRUE.equals(o.get("offlineFallback")))
                .timeouts(seconds(number(o, "connectTimeout", 2)), seconds(number(o, "totalTimeout", 5)))
                .pauseAfterFailure(seconds(number(o, "pauseAfterFailure", 10)))
                .maxUsageQueue((int) number(o, "maxUsageQueue", 10_000)).onProblem(problems::add)
                .clock(() -> System.currentTimeMillis() + offset);
            if (o.get("keys") != null) {
                made.keys(new KeySet((String) o.get("keys")));
            }
            if (o.get("caFile") != null) {
                made.caFile(Path.of((String) o.get("caFile")));
            }
            if (o.get("cacheDir") != null) {
                made.cacheDir(Path.of((String) o.get("cacheDir")));
            }
            client = new Client(made);
            return map();
        } catch (IllegalArgumentException wrong) {
            return map("error", wrong.getMessage());
        }
    }

    private Result validate(Map<String, Object> q) {
        String key = q.get("licenseKey") == null ? licenseKey : (String) q.get("licenseKey");
        return client.validate((String) q.get("domain"), key);
    }

    private Map<String, Object> statistics() {
        Client.UsageStatistics counts = client.usageStatistics();
        return map("accepted", counts.accepted(), "sent", counts.sent(), "rejected", counts.rejected(), "dropped",
            counts.dropped(), "pending", counts.pending());
    }

    /** A container's request and response, as far as the filter looks at them. */
    private static Map<String, Object> middleware(Map<String, Object> q) throws Exception {
        boolean isValid = Boolean.TRUE.equals(q.get("valid"));
        String[] features = texts(q.getOrDefault("features", List.of())).toArray(new String[0]);
        FakeClient fake = new FakeClient(isValid ? Result.valid(features) : Result.denied((String) q.get("code")));
        Map<String, Object> seen = map("status", 200, "feature", null, "code", null);
        java.io.StringWriter body = new java.io.StringWriter();
        Map<String, Object> attributes = new LinkedHashMap<>();
        HttpServletRequest request = proxy(HttpServletRequest.class, (method, arguments) -> switch (method.getName()) {
            case "getHeaders" -> Collections.enumeration(
                q.get("forwarded") == null ? List.of() : List.of((String) q.get("forwarded")));
            case "getHeader" -> q.get("host");
            case "getRemoteAddr" -> q.get("peer");
            case "setAttribute" -> attributes.put((String) arguments[0], arguments[1]);
            case "getAttribute" -> attributes.get((String) arguments[0]);
            default -> throw new UnsupportedOperationException(method.getName());
        });
        HttpServletResponse response = proxy(HttpServletResponse.class, (method, arguments) -> switch (method.getName()) {
            case "setStatus" -> seen.put("status", arguments[0]);
            case "getWriter" -> new java.io.PrintWriter(body, true);
            default -> null;
        });
        FilterChain chain = (incoming, outgoing) ->
            seen.put("feature", ((Result) incoming.getAttribute(LicenseFilter.ATTRIBUTE)).features().has("analytics"));
        new LicenseFilter(fake, (String) q.get("domain"), texts(q.get("trusted"))).doFilter(request, response, chain);
        if (body.getBuffer().length() > 0) {
            seen.put("code", Lines.read(body.toString()).get("code"));
        }
        seen.put("asked", fake.asked().get(0));
        return seen;
    }

    private interface Call {
        Object call(Method method, Object[] arguments);
    }

    private static <T> T proxy(Class<T> type, Call call) {
        return type.cast(Proxy.newProxyInstance(Driver.class.getClassLoader(), new Class<?>[] {type},
            (self, method, arguments) -> {
                Object answer = call.call(method, arguments);
                return method.getReturnType() == void.class ? null : answer;
            }));
    }

    private static Map<String, Object> shown(Result result) {
        return map("valid", result.valid(), "code", result.code(), "source", result.source(), "age",
            result.age().toSeconds(), "features", new ArrayList<>(result.features().names()), "grace", result.grace(),
            "problem", result.problem());
    }

    private static Map<String, Object> map(Object... members) {
        Map<String, Object> map = new LinkedHashMap<>();
        for (int i = 0; i < members.length; i += 2) {
            map.put((String) members[i], members[i + 1]);
        }
        return map;
    }

    private static List<String> texts(Object value) {
        return ((List<?>) value).stream().map(String.class::cast).toList();
    }

    private static double number(Map<String, Object> q, String name, double standard) {
        return q.get(name) instanceof Double number ? number : standard;
    }

    private static Duration seconds(double value) {
        return Duration.ofNanos((long) (value * 1e9));
    }
}

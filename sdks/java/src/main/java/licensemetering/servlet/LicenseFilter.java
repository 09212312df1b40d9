package licensemetering.servlet;

import jakarta.servlet.Filter;
import jakarta.servlet.FilterChain;
import jakarta.servlet.ServletException;
import jakarta.servlet.ServletRequest;
import jakarta.servlet.ServletResponse;
import jakarta.servlet.http.HttpServletRequest;
import jakarta.servlet.http.HttpServletResponse;
import java.io.IOException;
import java.net.InetAddress;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import licensemetering.Result;
import licensemetering.Validator;

/** Lets requests through where the license holds; the request's attribute "license" is the Result. */
public final class LicenseFilter implements Filter {
    /** The name of the attribute. */
    public static final String ATTRIBUTE = "license";

    private final Validator client;
    private final String domain;
    private final List<Range> proxies = new ArrayList<>();

    private record Range(byte[] base, int bits) {
        boolean contains(byte[] address) {
            if (address.length != base.length) {
                return false;
            }
            for (int i = 0; i < bits; i++) {
                if (((address[i / 8] ^ base[i / 8]) >> (7 - i % 8) & 1) != 0) {
                    return false;
                }
            }
            return true;
        }
    }

    /**
     * A filter.
     *
     * @param client whom to ask
     * @param domain what to ask about; null: the request's host
     * @param trustedProxies addresses and ranges whose X-Forwarded-Host is believed
     */
    public LicenseFilter(Validator client, String domain, List<String> trustedProxies) {
        this.client = client;
        this.domain = domain;
        for (String proxy : trustedProxies) {
            String[] parts = proxy.split("/", 2);
            byte[] base = bytes(parts[0]);
            int bits = base == null ? -1 : parts.length == 1 ? base.length * 8 : Integer.parseInt(parts[1]);
            if (bits < 0 || bits > base.length * 8) {
                throw new IllegalArgumentException("trustedProxies must be addresses or ranges: 10.0.0.0/8, fd00::/8");
            }
            proxies.add(new Range(base, bits));
        }
    }

    @Override
    public void doFilter(ServletRequest request, ServletResponse response, FilterChain chain)
        throws IOException, ServletException {
        Result result = client.validate(host((HttpServletRequest) request));
        request.setAttribute(ATTRIBUTE, result);
        if (result.valid()) {
            chain.doFilter(request, response);
            return;
        }
        boolean isUnknown = result.code().equals("unreachable");
        HttpServletResponse answer = (HttpServletResponse) response;
        answer.setStatus(isUnknown ? 503 : 403);
        answer.setContentType("application/problem+json");
        answer.setCharacterEncoding("UTF-8");
        String detail = result.explanation() == null ? "The license is not valid." : result.explanation();
        answer.getWriter().write(String.format(
            "{\"type\":\"about:blank\",\"title\":\"%s\",\"status\":%d,\"code\":\"%s\",\"detail\":\"%s\"}",
            isUnknown ? "Service Unavailable" : "Forbidden", isUnknown ? 503 : 403, escaped(result.code()), escaped(detail)));
    }

    private String host(HttpServletRequest request) {
        if (domain != null) {
            return domain;
        }
        List<String> values = Collections.list(request.getHeaders("X-Forwarded-Host"));
        String forwarded = String.join(",", values);
        if (!forwarded.isEmpty() && isTrusted(request.getRemoteAddr())) {
            // The last is the trusted proxy's own; what stands before may be the client's.
            return forwarded.substring(forwarded.lastIndexOf(',') + 1).trim();
        }
        String host = request.getHeader("Host");
        return host == null ? "" : host;
    }

    private boolean isTrusted(String peer) {
        byte[] address = bytes(peer);
        return address != null && proxies.stream().anyMatch(proxy -> proxy.contains(address));
    }

    /** Of an address; no name is looked up. */
    private static byte[] bytes(String address) {
        if (address == null || !address.matches("[0-9]+\\.[0-9]+\\.[0-9]+\\.[0-9]+|[0-9a-fA-F:.]*:[0-9a-fA-F:.]*")) {
            return null;
        }
        try {
            return InetAddress.getByName(address).getAddress();
        } catch (IOException none) {
            return null;
        }
    }

    private static String escaped(String text) {
        return text.replaceAll("[\\p{Cntrl}]", " ").replace("\\", "\\\\").replace("\"", "\\\"");
    }
}

// In libllama-server-impl, in place of upstream's server-http.cpp, which it includes unchanged: the HTTP server with a
// doorkeeper. Upstream asks nobody who is calling, so any web page could talk to a server on its reader's machine.
//
// - A Host that is no loopback name, not the address the connection came to and not allowed is refused (DNS rebinding).
// - Pages of other origins are refused unless --cors-origins allows them.
// - Every error body is JSON of OpenAI's shape, and what the client got wrong is a 4xx.
// - Requests in flight end when the server stops; upstream waits for their clients to go away.
#include "internal.h"

#include "server-common.h"

#include <cpp-httplib/httplib.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

namespace {

struct policy {
    std::vector<std::string> hosts; // lower case; "*" allows every name
    std::vector<std::string> origins;
    size_t                   max_body = 0; // 0: httplib's own limit
    std::string              model;
};

policy rules; // written before the server starts, read by its threads

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
    return text;
}

bool has(const std::vector<std::string> & list, const std::string & value) {
    return std::find(list.begin(), list.end(), value) != list.end();
}

// "name:8080", "[::1]:8080", "name." -> the name alone; "" when it is malformed.
std::string host_name(const std::string & authority) {
    std::string name = lower(authority);
    if (!name.empty() && name[0] == '[') {
        const size_t end = name.find(']');
        return end == std::string::npos ? "" : name.substr(1, end - 1);
    }
    name = name.substr(0, name.find(':'));
    if (!name.empty() && name.back() == '.') {
        name.pop_back();
    }
    return name;
}

bool is_loopback(const std::string & name) {
    static const std::string suffix = ".localhost";
    if (name == "localhost" || name == "::1") {
        return true;
    }
    if (name.size() > suffix.size() && name.compare(name.size() - suffix.size(), suffix.size(), suffix) == 0) {
        return true;
    }
    return name.compare(0, 4, "127.") == 0 && name.find_first_not_of("0123456789.") == std::string::npos;
}

std::string plain_address(const std::string & address) {
    static const std::string mapped = "::ffff:";
    return address.compare(0, mapped.size(), mapped) == 0 ? address.substr(mapped.size()) : address;
}

// A connection without an address came through a Unix socket, which no web page reaches.
bool host_allowed(const httplib::Request & req) {
    const size_t count = req.get_header_value_count("Host");
    if (count == 0 || req.local_addr.empty()) {
        return count <= 1;
    }
    const std::string name = host_name(req.get_header_value("Host"));
    return count == 1 && (is_loopback(name) || name == plain_address(req.local_addr) || has(rules.hosts, name) ||
                          has(rules.hosts, "*"));
}

bool is_own_page(const httplib::Request & req, const std::string & origin) {
    const std::string host = lower(req.get_header_value("Host"));
    return !host.empty() && (origin == "http://" + host || origin == "https://" + host);
}

bool listed(const std::string & origin) {
    if (has(rules.origins, "*") || has(rules.origins, origin)) {
        return true;
    }
    const size_t scheme = origin.find("://");
    return has(rules.origins, "localhost") && scheme != std::string::npos && is_loopback(host_name(origin.substr(scheme + 3)));
}

// Browsers say where a request comes from: in Origin, or for images, scripts and frames in Sec-Fetch-Site alone.
bool origin_allowed(const httplib::Request & req) {
    if (req.has_header("Origin")) {
        const std::string origin = lower(req.get_header_value("Origin"));
        return is_own_page(req, origin) || listed(origin);
    }
    const std::string site = req.get_header_value("Sec-Fetch-Site");
    const bool        link = req.method == "GET" && req.get_header_value("Sec-Fetch-Mode") == "navigate" &&
                      req.get_header_value("Sec-Fetch-Dest") == "document";
    return site.empty() || site == "same-origin" || site == "none" || link || has(rules.origins, "*");
}

std::string error_body(int status, const std::string & message, const char * type) {
    return safe_json_to_str(json{{"error", {{"message", message}, {"type", type}, {"code", status}}}});
}

void refuse(httplib::Response & res, int status, const std::string & message, const char * type) {
    res.status = status;
    res.set_content(error_body(status, message, type), "application/json; charset=utf-8");
}

bool admit(const httplib::Request & req, httplib::Response & res) {
    if (!host_allowed(req)) {
        refuse(res, 403, "this server does not answer to the name " + req.get_header_value("Host") +
                             "; --allowed-hosts NAME allows it", "permission_error");
        return false;
    }
    if (!origin_allowed(req)) {
        const std::string origin = req.has_header("Origin") ? req.get_header_value("Origin") : "another site";
        refuse(res, 403, "pages of " + origin + " may not use this server; --cors-origins ORIGIN allows it",
               "permission_error");
        return false;
    }
    return true;
}

// Upstream repeats one configured text; browsers want the page's own origin back.
void set_cors(const httplib::Request & req, httplib::Response & res) {
    res.headers.erase("Access-Control-Allow-Origin");
    const std::string origin = req.get_header_value("Origin");
    if (!origin.empty() && listed(lower(origin))) {
        res.set_header("Access-Control-Allow-Origin", origin);
        res.set_header("Vary", "Origin");
    }
}

// The page calls itself after the program that it was built as; build_native.py makes it load this.
void send_page_name(httplib::Response & res) {
    const std::string name = safe_json_to_str(json(rules.model));
    res.set_header("Cache-Control", "no-cache");
    res.set_content("(() => {\n"
                    "const name = " + name + ", built = /(^| - )llama-ui$/;\n"
                    "const fit = () => { if (built.test(document.title))"
                    " document.title = document.title.replace(built, (_, dash) => dash + name); };\n"
                    "new MutationObserver(fit).observe(document.head, {subtree: true, childList: true, characterData: true});\n"
                    "fit();\n"
                    "})();\n", "text/javascript; charset=utf-8");
}

const char * error_type_of(int status) {
    switch (status) {
        case 401: return "authentication_error";
        case 403: return "permission_error";
        case 404: return "not_found_error";
        case 413: return "request_too_large";
        default:  return status < 500 ? "invalid_request_error" : "server_error";
    }
}

std::string error_text_of(int status) {
    if (status == 413 && rules.max_body > 0) {
        return "the request's body is larger than " + std::to_string(rules.max_body) + " bytes";
    }
    return httplib::status_message(status);
}

// What the JSON library says about a body it cannot read, or about a value of the wrong kind, is the client's mistake.
void blame_client(const httplib::Request & req, httplib::Response & res) {
    if (res.status == 500 && res.body.find("[json.exception.") != std::string::npos) {
        const json told    = json::parse_no_throw(res.body);
        std::string message = "the request's body is not JSON";
        if (req.is_multipart_form_data() || !json::parse_no_throw(req.body).is_discarded()) {
            message = "a value in the request is of the wrong kind";
        }
        if (told.is_object() && told.contains("error")) {
            const std::string reason = json_value(told.at("error"), "message", std::string());
            message += ": " + reason.substr(reason.find("] ") == std::string::npos ? 0 : reason.find("] ") + 2);
        }
        refuse(res, 400, message, "invalid_request_error");
    }
}

// Which devices compute, and how many layers each has.
void add_layers(httplib::Response & res) {
    json told = json::parse_no_throw(res.body);
    if (told.is_object() && res.status == 200) {
        told["compute"] = json::parse_no_throw(engine_placement());
        res.set_content(safe_json_to_str(told), "application/json; charset=utf-8");
    }
}

} // namespace

void engine_http_rules(const std::vector<std::string> & hosts, const std::string & origins, size_t max_body,
                       const std::string & model) {
    rules = policy{{}, {}, max_body, model};
    for (const std::string & host : hosts) {
        rules.hosts.push_back(host_name(host.find(':') != host.rfind(':') ? "[" + host + "]" : host));
    }
    for (const std::string & origin : string_split<std::string>(origins, ',')) {
        const std::string plain = lower(string_strip(origin));
        if (!plain.empty()) {
            rules.origins.push_back(plain);
        }
    }
}

namespace httplib {

// What upstream's source below takes for httplib::Server. It hides the functions that upstream calls to set it up.
class GuardedServer : public Server {
public:
    GuardedServer() {
        if (rules.max_body > 0) {
            set_payload_max_length(rules.max_body);
        }
    }

    void set_pre_routing_handler(HandlerWithResponse next) {
        Server::set_pre_routing_handler([next](const Request & req, Response & res) {
            if (!admit(req, res)) {
                return HandlerResponse::Handled;
            }
            if (req.method == "GET" && string_ends_with(req.path, "/page-name.js")) { // after any --api-prefix
                send_page_name(res);
                return HandlerResponse::Handled;
            }
            const auto result = next(req, res);
            set_cors(req, res);
            return result;
        });
    }

    void set_error_handler(Handler next) {
        Server::set_error_handler(Handler([next](const Request & req, Response & res) {
            next(req, res);
            if (res.body.empty() && res.status >= 400) {
                refuse(res, res.status, error_text_of(res.status), error_type_of(res.status));
            }
        }));
    }

    void set_default_headers(Headers headers) {
        headers.emplace("X-Content-Type-Options", "nosniff");
        headers.emplace("X-Frame-Options", "SAMEORIGIN"); // no other page shows ours as its own
        Server::set_default_headers(std::move(headers));
    }

#if defined(_WIN32)
    // SO_REUSEADDR, which upstream sets, lets two programs have one port there.
    void set_socket_options(SocketOptions) {
        Server::set_socket_options([](socket_t sock) { set_socket_opt(sock, SOL_SOCKET, SO_EXCLUSIVEADDRUSE, 1); });
    }
#endif

    void Get(const std::string & pattern, Handler handler) {
        if (string_ends_with(pattern, "/props")) {
            handler = [next = std::move(handler)](const Request & req, Response & res) {
                next(req, res);
                add_layers(res);
            };
        }
        Server::Get(pattern, ending(std::move(handler)));
    }

    void Post(const std::string & pattern, Handler handler) { Server::Post(pattern, ending(std::move(handler))); }

    void stop() noexcept {
        stopping = true;
        Server::stop();
    }

private:
    // The handler's request counts as abandoned once the server stops.
    Handler ending(Handler handler) {
        return [this, handler = std::move(handler)](const Request & req, Response & res) {
            auto & request = const_cast<Request &>(req); // httplib's own object, made for this call
            request.is_connection_closed = [this, closed = req.is_connection_closed] {
                return stopping.load() || closed();
            };
            handler(request, res);
            blame_client(req, res);
        };
    }

    std::atomic<bool> stopping{false};
};

} // namespace httplib

#define Server GuardedServer
#include "server-http.cpp"
